// Usage over time and by group: one chart, and the table that is its legend.

import { BarsChart, COLOURS } from "../charts/bars.js";
import { now } from "../clock.js";
import { el, setList, setText } from "../dom.js";
import { count, credits, creditsExact, day, dayTime, percent, timeShort } from "../format.js";
import { choice, section, table, textTable } from "../parts.js";
import { plain } from "../words.js";

const POINTS_MAX = 10_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const STEPS_MS = { minute: MINUTE_MS, hour: HOUR_MS, day: DAY_MS };
const RANGES = {
  hour: { name: "Hour", interval: "minute", length_ms: HOUR_MS },
  day: { name: "Day", interval: "hour", length_ms: DAY_MS },
  month: { name: "30 days", interval: "day", length_ms: 30 * DAY_MS },
};
const GROUPS = [
  ["category", "Category"],
  ["operation", "Operation"],
  ["api_key", "Key"],
];
const MEASURES = { credits: "Credits", requests: "Requests" };

export function usageSection({ onChange }) {
  let group = "category";
  let range = "hour";
  let measure = "credits";
  let answer = null;

  const chart = new BarsChart();
  const legend = table("Usage by group in the time shown", [
    { name: "Group" },
    { name: "Credits", number: true },
    { name: "Share", number: true, className: "narrow-out" },
    { name: "Requests", number: true },
    { name: "Throttled", number: true },
    { name: "Errors", number: true, className: "narrow-out" },
  ]);
  const figures = textTable("Usage over time", ["From", "Credits", "Requests"]);
  const rest = el("p", { class: "soft small", hidden: true }, "There are more groups than fit here; the API lists all.");
  const empty = el("p", { class: "empty", hidden: true }, "Nothing was used in this time.");
  const body = el(
    "div",
    { class: "usage-body" },
    el("figure", {}, chart.node, figures.node),
    el("div", { class: "scroll" }, legend.node),
  );
  const asked = (set) => (value) => {
    set(value);
    onChange();
  };
  const node = section(
    "Usage",
    {
      class: "usage",
      tools: [
        choice("Grouped by", GROUPS, group, asked((value) => (group = value))),
        choice("Time", Object.entries(RANGES).map(([key, { name }]) => [key, name]), range, asked((value) => (range = value))),
        choice("Measured in", Object.entries(MEASURES), measure, (value) => {
          measure = value;
          draw();
        }),
      ],
    },
    empty,
    body,
    rest,
  );

  function draw() {
    if (!answer) return;
    const { step_ms, times, groups } = byTime(answer, measure);
    empty.hidden = groups.length > 0;
    body.hidden = groups.length === 0;
    if (!groups.length) return;
    const total = groups.reduce((sum, { credits }) => sum + credits, 0);
    setList(legend.body, groups, { key: ({ name }) => name, make: legendRow, update: updateRow(total) });
    groups.forEach(({ name }, index) => colour(legend.body, name, index));
    const label = step_ms === MINUTE_MS ? timeShort : step_ms === DAY_MS ? day : dayTime;
    const read = (index) => (index === null ? readAll(measure, step_ms) : readAt(groups, label(times[index]), index));
    chart.show({ times, step_ms, groups, read, summary: summary(groups, total) });
    figures.setRows(
      times.map((at, index) => [
        label(at),
        creditsExact(groups.reduce((sum, one) => sum + one.creditsAt[index], 0)),
        count(groups.reduce((sum, one) => sum + one.requestsAt[index], 0)),
      ]),
    );
  }

  return {
    node,
    close: () => chart.close(),
    parameters() {
      const { interval, length_ms } = RANGES[range];
      const to = Math.ceil(now() / STEPS_MS[interval]) * STEPS_MS[interval];
      return { from: iso(to - length_ms), to: iso(to), interval, group_by: group, limit: POINTS_MAX };
    },
    show(found) {
      answer = found;
      rest.hidden = found.next_cursor === null;
      draw();
    },
  };

  function summary(groups, total) {
    const most = groups[0];
    const share = total > 0 ? `, most of it ${groupName(most.name)} (${percent(most.credits / total)})` : "";
    const length = { hour: "last hour", day: "last day", month: "last 30 days" }[range];
    return `${MEASURES[measure]} of the ${length}, stacked by group: ${creditsExact(total)} credits in all${share}.`;
  }
}

function readAll(measure, step_ms) {
  const step = Object.keys(STEPS_MS).find((name) => STEPS_MS[name] === step_ms);
  return `${MEASURES[measure]} a ${step}, UTC`;
}

function readAt(groups, when, index) {
  const most = groups.filter(({ values }) => values[index] > 0).slice(0, 4);
  const texts = most.map(({ name, values }) => `${groupName(name)} ${credits(values[index])}`);
  return `${when}: ${texts.join(", ") || "nothing"}`;
}

/** Points of an answer as one regular series of each group, the costliest first. */
function byTime({ start, end, interval, points }, measure) {
  const step_ms = STEPS_MS[interval];
  const first = Date.parse(start);
  const times = [];
  for (let at = first; at < Date.parse(end); at += step_ms) times.push(at);
  const groups = new Map();
  for (const point of points) {
    const index = (Date.parse(point.at) - first) / step_ms;
    if (!Number.isInteger(index) || index < 0 || index >= times.length) continue;
    let group = groups.get(point.group);
    if (!group) {
      const zeros = () => new Array(times.length).fill(0);
      group = { name: point.group, credits: 0, requests: 0, throttled: 0, errors: 0, creditsAt: zeros(), requestsAt: zeros() };
      groups.set(point.group, group);
    }
    for (const sum of ["credits", "requests", "throttled", "errors"]) group[sum] += point[sum];
    group.creditsAt[index] += point.credits;
    group.requestsAt[index] += point.requests;
  }
  const sorted = [...groups.values()].sort((a, b) => b.credits - a.credits || b.requests - a.requests);
  for (const group of sorted) group.values = measure === "credits" ? group.creditsAt : group.requestsAt;
  return { step_ms, times, groups: sorted };
}

function legendRow({ name }) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("span", { class: "swatch", "aria-hidden": "true" }), groupName(name)),
    ["", "narrow-out", "", "", "narrow-out"].map((name) => el("td", { class: `number ${name}`.trim() })),
  );
}

function updateRow(total) {
  return (row, { credits, requests, throttled, errors }) => {
    const texts = [creditsExact(credits), percent(total > 0 ? credits / total : 0), count(requests), count(throttled), count(errors)];
    texts.forEach((text, index) => setText(row.children[index + 1], text));
  };
}

function colour(body, name, index) {
  const row = [...body.children].find((child) => child.dataset.key === name);
  const number = Math.min(index, COLOURS - 1) + 1;
  row.querySelector(".swatch").style.setProperty("--swatch", `var(--series-${number})`);
}

function groupName(name) {
  if (name === "") return "Storage";
  return /^[a-z]+$/.test(name) ? plain(name) : name;
}

function iso(ms) {
  return new Date(ms).toISOString();
}
