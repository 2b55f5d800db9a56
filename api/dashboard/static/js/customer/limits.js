// Limits now and how much of each is in use: those of the plan, those that the workers speak of, and the resources.

import { el, setList, setText } from "../dom.js";
import { count, percent } from "../format.js";
import { meter, section, setMeter, table } from "../parts.js";
import { amount, limitName, plain, scopeName } from "../words.js";

const COLUMNS = [
  { name: "Limit" },
  { name: "In use", number: true },
  { name: "Allowed", number: true },
  { name: "Share", number: true },
  { name: "Utilization", hidden: true, className: "narrow-out" },
];

export function limitsSection() {
  const rates = table("Limits in force", COLUMNS);
  const quotas = table("Resources", [{ ...COLUMNS[0], name: "Resource" }, ...COLUMNS.slice(1)]);
  const note = el("p", { class: "soft small" }, "Low: well below the limit; the use of a limit is told as it comes near.");
  const node = section(
    "Limits",
    { class: "limits" },
    el("div", { class: "scroll" }, rates.node),
    note,
    el("h3", {}, "Resources"),
    el("div", { class: "scroll" }, quotas.node),
  );
  let organization = null;
  let told = [];

  function draw() {
    if (!organization) return;
    const spoken = told.filter(({ limit_name: name }) => !name.startsWith("quota_")).map(toldRow);
    const names = new Set(told.map(({ limit_name: name }) => name));
    const silent = planLimits(organization).filter(({ name, limit }) => limit !== null && !names.has(name));
    const rows = [...spoken.sort((a, b) => b.share - a.share), ...silent.map(planRow)];
    setList(rates.body, rows, { key: ({ key }) => key, make: row, update });
    note.hidden = silent.length === 0;
    setList(quotas.body, Object.entries(organization.quotas).map(quotaRow), { key: ({ key }) => key, make: row, update });
  }

  return {
    node,
    showLimits({ limits }) {
      told = limits;
      draw();
    },
    showOrganization(about) {
      organization = about;
      draw();
    },
  };
}

/** What the plan limits, whether or not anything was used of it. */
function planLimits({ limits, concurrency }) {
  const categories = Object.entries(limits.by_category).map(([name, limit]) => ({ name: `${name}_per_minute`, limit }));
  return [
    { name: "requests_per_second", limit: limits.per_second },
    { name: "requests_per_minute", limit: limits.per_minute },
    ...categories,
    { name: "concurrency", limit: concurrency },
  ];
}

function planRow({ name, limit }) {
  const of = name === "concurrency" ? "whole organization" : "each key";
  return { key: `plan:${name}`, name: limitName(name), of, used: "low", limit: count(limit), share: null };
}

function toldRow({ limit_name: name, scope, limit, used, utilization }) {
  const about = [scope.operation, scope.subject, scope.label].filter(Boolean).join(", ");
  return {
    key: JSON.stringify([name, scope]),
    name: limitName(name),
    of: about ? `${about}, ${scopeName(scope)}` : scopeName(scope),
    used: amount(name, used),
    limit: amount(name, limit),
    share: utilization ?? 1,
  };
}

function quotaRow([name, { used, limit }]) {
  const share = used === null || limit === null ? null : limit > 0 ? used / limit : 1;
  const shown = used === null ? "low" : count(used);
  return { key: name, name: plain(name), of: "", used: shown, limit: limit === null ? "no limit" : count(limit), share };
}

function row({ name, of }) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, name, of ? [" ", el("span", { class: "of" }, of)] : null),
    el("td", { class: "number" }),
    el("td", { class: "number" }),
    el("td", { class: "number" }),
    el("td", { class: "bar narrow-out" }, meter()),
  );
}

function update(node, { used, limit, share }) {
  setText(node.children[1], used);
  setText(node.children[2], limit);
  setText(node.children[3], percent(share));
  const bar = node.querySelector(".meter");
  bar.hidden = share === null;
  setMeter(bar, share);
}
