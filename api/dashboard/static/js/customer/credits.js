// Credits: what is left, live; where the month is going; when they run out.

import { BurnChart, burnRows } from "../charts/burn.js";
import { everySecond, now } from "../clock.js";
import { el, setList, setText } from "../dom.js";
import { count, credits, creditsExact, day, dayTime, duration, month, percent } from "../format.js";
import { facts, meter, section, setMeter, setTone, textTable } from "../parts.js";
import { breakdownName, plain } from "../words.js";

const DAY_MS = 86_400_000;
/** So young a month is drawn by the hour. */
const BY_HOUR_MS = 4 * DAY_MS;

export function creditsSection() {
  const whole = el("span", { class: "left-whole" }, "–");
  const part = el("span", { class: "left-part" });
  const left = el("p", { class: "left", id: "credits-left" }, whole, part);
  const ofTotal = el("p", { class: "soft" });
  const bar = meter();
  const more = facts([
    ["used", "Used this month"],
    ["granted", "Grants and boosts"],
    ["lent", "Held for running requests"],
    ["overage", "Beyond the limit"],
    ["reset", "Resets"],
  ]);
  const pace = facts([
    ["hour", "Last hour"],
    ["day", "Last 24 hours"],
    ["lasting", "Lasts until the reset at"],
  ]);
  const parts = el("dl", { class: "facts" });
  const outlook = el("p", { class: "outlook" }, "The projection is being made.");
  const note = el("p", { class: "soft small" });
  const chart = new BurnChart();
  const figures = textTable("Credits used this month, by day, with the projection", ["Until", "Credits used", "80 % interval"]);
  const figure = el("figure", {}, chart.node, figures.node);
  const node = section(
    "Credits",
    { class: "credits" },
    el("div", { class: "credits-now" }, el("h3", {}, "Left"), left, ofTotal, bar, more.node),
    el("div", { class: "credits-month" }, outlook, figure, note),
    el("div", { class: "credits-parts" }, el("h3", {}, "Burned"), pace.node, el("h3", {}, "Went into"), parts),
  );

  let usage = null;
  let projection = null;
  let points = null;

  function start() {
    const reset = Date.parse(usage.credits.reset_date);
    const date = new Date(reset);
    return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - 1, 1);
  }

  function monthEnd() {
    const today = new Date(now());
    return Date.UTC(today.getUTCFullYear(), today.getUTCMonth() + 1, 1);
  }

  function draw() {
    if (!usage || !points) return;
    const at = Math.min(now(), Date.parse(usage.credits.reset_date));
    const known = points.filter(([ms]) => ms < at);
    const shape = {
      start: start(),
      end: Date.parse(usage.credits.reset_date),
      now: at,
      total: usage.credits.total,
      actual: [...known.map(([ms, sum]) => [ms, Math.min(sum, usage.credits.used)]), [at, usage.credits.used]],
      projection: projection && {
        low: projection.low,
        middle: projection.projected,
        high: projection.high,
      },
      summary: `${month(start())}: ${count(usage.credits.used)} credits used. ${outlook.textContent}`,
    };
    chart.show(shape);
    figures.setRows(burnRows(shape));
  }

  function tick() {
    if (!usage) return;
    const reset = Date.parse(usage.credits.reset_date);
    more.set("reset", `${day(reset)}, in ${duration(reset - now())}`);
    const { remaining } = usage.credits;
    pace.set("lasting", remaining === null ? "any pace" : `${count(remaining / ((reset - now()) / DAY_MS))} a day`);
  }

  const stop = everySecond(tick);

  return {
    node,
    close() {
      stop();
      chart.close();
    },

    showUsage(figures) {
      usage = figures;
      const { total, used, remaining } = figures.credits;
      const [integer, fraction] = (remaining === null ? "No limit" : credits(remaining)).split(".");
      setText(whole, integer);
      setText(part, fraction ? `.${fraction}` : "");
      left.title = remaining === null ? "" : `${creditsExact(remaining)} credits`;
      setText(ofTotal, total === null ? "" : `of ${creditsExact(total)}`);
      const share = total === null ? 0 : total > 0 ? used / total : 1;
      bar.hidden = total === null;
      setMeter(bar, share);
      setTone(left, share >= 0.95 ? "critical" : "");
      more.set("used", `${creditsExact(used)}${total ? ` (${percent(share)})` : ""}`);
      for (const name of ["granted", "lent", "overage"]) {
        more.set(name, figures.credits[name] > 0 ? creditsExact(figures.credits[name]) : null);
      }
      showParts(parts, figures);
      tick();
      draw();
    },

    showProjection(answer) {
      projection = answer;
      pace.set("hour", answer && `${count(answer.last_hour)} credits`);
      pace.set("day", answer && `${count(answer.last_day)} credits`);
      setText(note, answer ? historyNote(answer) : "");
      setText(outlook, answer ? outlookSentence(answer, monthEnd()) : "Nothing was used yet: there is nothing to project.");
      setTone(outlook, answer?.exhausted_at ? "critical" : "");
      draw();
    },

    monthParameters() {
      const today = new Date(now());
      const from = Date.UTC(today.getUTCFullYear(), today.getUTCMonth(), 1);
      return { from: new Date(from).toISOString(), interval: now() - from < BY_HOUR_MS ? "hour" : "day" };
    },

    showMonth({ start: from, interval, points: found }) {
      let sum = 0;
      const step = interval === "hour" ? 3_600_000 : DAY_MS;
      points = [[Date.parse(from), 0]];
      for (const { at, credits: spent } of found) points.push([Date.parse(at) + step, (sum += spent)]);
      draw();
    },
  };
}

/** The breakdown that the API answers, the costliest first, without what nothing went into. */
function showParts(node, { breakdown, credits: { used } }) {
  const sorted = Object.entries(breakdown)
    .filter(([, spent]) => spent !== 0)
    .sort(([, a], [, b]) => b - a);
  setList(node, sorted, {
    key: ([name]) => name,
    make: ([name]) => el("div", {}, el("dt", {}, breakdownName(name)), el("dd", {})),
    update: (row, [, spent]) => setText(row.lastChild, `${creditsExact(spent)} (${percent(used > 0 ? spent / used : 0)})`),
  });
}

/** Where the month ends, and whether the credits last: with the interval that holds 80 % of outcomes. */
function outlookSentence({ projected, low, high, exhausted_at: at, exhausted_early: early, exhausted_late: late }, end) {
  const where = `About ${count(projected)} credits by ${day(end)} (80 %: ${count(low)} to ${count(high)}).`;
  if (!at && !early) return `${where} They last until the reset.`;
  if (!at) return `${where} They last until the reset, but may run out from ${dayTime(early)} UTC on.`;
  const until = late ? `and ${dayTime(late)}` : "and the reset";
  return `They run out about ${dayTime(at)} UTC (80 %: between ${dayTime(early)} ${until}). ${where}`;
}

/** What the forecast repeats, by its level; one that is not known here is shown by its own name. */
const BASES = { hour_of_week: "the hours of the week", hour_of_day: "the hours of the day", mean: "the mean so far" };

function historyNote({ level, history_hours: hours, interval_is_learnt: isLearnt }) {
  const basis = `Projected from ${BASES[level] ?? plain(level)}, seen for ${duration(hours * 3_600_000)}.`;
  return isLearnt ? basis : `${basis} The interval is assumed until it is known how far off forecasts are.`;
}
