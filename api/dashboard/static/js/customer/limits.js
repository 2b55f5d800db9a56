// Limits now, how much of each is in use, and the resources' quotas.

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
  const quotas = table("Resources", COLUMNS);
  const node = section(
    "Limits",
    { class: "limits" },
    el("div", { class: "scroll" }, rates.node),
    el("h3", {}, "Resources"),
    el("div", { class: "scroll" }, quotas.node),
  );
  return {
    node,
    showLimits({ limits }) {
      const rows = limits.map(({ limit_name: name, scope, limit, used, utilization }) => ({
        key: JSON.stringify([name, scope]),
        name: limitName(name),
        of: scopeText(scope),
        used: amount(name, used),
        limit: amount(name, limit),
        share: utilization,
      }));
      setList(rates.body, rows, { key: ({ key }) => key, make: row, update });
    },
    showOrganization({ quotas: held }) {
      const rows = Object.entries(held).map(([name, { used, limit }]) => ({
        key: name,
        name: plain(name),
        of: "",
        used: count(used),
        limit: limit === null ? "no limit" : count(limit),
        share: used === null || limit === null ? null : limit > 0 ? used / limit : 1,
      }));
      setList(quotas.body, rows, { key: ({ key }) => key, make: row, update });
    },
  };
}

function scopeText(scope) {
  const about = scope.operation ?? scope.label;
  return about ? `${about}, ${scopeName(scope)}` : scopeName(scope);
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
