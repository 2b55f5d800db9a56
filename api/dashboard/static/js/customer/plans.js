// What this month would have come to on each plan.

import { el, setList, setText } from "../dom.js";
import { count, creditsExact, dayTime } from "../format.js";
import { section, table } from "../parts.js";

export function plansSection() {
  const lead = el("p", { class: "lead" }, "The month is being compared.");
  const { node: rows, body } = table("This month's own use on each plan", [
    { name: "Plan" },
    { name: "You would have paid", number: true },
    { name: "Refused for want of credits", number: true },
    { name: "Been throttled", number: true },
  ]);
  const note = el(
    "p",
    { class: "soft small", hidden: true },
    "Credits and requests of this organization alone, with each plan's own limits; throttled is the least that is certain.",
  );
  rows.hidden = true;
  const node = section("On each plan", { class: "plans" }, lead, el("div", { class: "scroll" }, rows), note);
  return {
    node,
    show({ tier, plans }) {
      const used = plans.some(({ requests, paid, beyond }) => requests > 0 || paid > 0 || beyond > 0);
      setText(lead, used ? sentence(fitting(plans)) : "Nothing was used yet: there is nothing to compare.");
      rows.hidden = note.hidden = !used;
      setList(body, plans, { key: (plan) => plan.tier, make: row, update: (line, plan) => update(line, plan, tier) });
    },
  };
}

/** The first, and so the smallest, whose credits last; else the largest. */
function fitting(plans) {
  return plans.find(({ beyond }) => beyond === 0) ?? plans.at(-1);
}

function sentence({ tier, paid, beyond, throttled }) {
  const refused = beyond > 0 ? `, been refused ${creditsExact(beyond)}` : "";
  const held = throttled === null ? "" : `, been throttled ${timesText(throttled)}`;
  return `On ${tier.toUpperCase()} you would have paid ${creditsExact(paid)} credits${refused}${held}.`;
}

function timesText(throttled) {
  if (throttled === 0) return "0 times";
  return `at least ${count(throttled)} ${throttled === 1 ? "time" : "times"}`;
}

function row({ tier }) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, tier.toUpperCase(), " ", el("span", { class: "tag", hidden: true }, "your plan")),
    ["", "", ""].map(() => el("td", { class: "number" })),
  );
}

function update(line, { tier, paid, beyond, ran_out_at: at, throttled }, own) {
  line.querySelector(".tag").hidden = tier !== own;
  setText(line.children[1], `${creditsExact(paid)} credits`);
  setText(line.children[2], beyond > 0 ? `${creditsExact(beyond)}, from ${dayTime(at)} UTC` : "0");
  setText(line.children[3], throttled === null ? "by agreement" : timesText(throttled));
}
