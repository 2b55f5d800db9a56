// What is blocked now, of all organizations.

import { now } from "../clock.js";
import { el, setList, setText } from "../dom.js";
import { count, countdown, dayTime, duration } from "../format.js";
import { section, table } from "../parts.js";
import { amount, blockedName, isMoney, limitName, scopeOf, scopeWhole } from "../words.js";

const MICRO = 1e6;
const DAY_MS = 86_400_000;

export function blocksTable() {
  const kinds = el("p", { class: "soft lead" });
  const { node: rows, body } = table("Blocks now, the newest first", [
    { name: "Organization" },
    { name: "Blocked" },
    { name: "Scope", className: "narrow-out" },
    { name: "Observed", number: true },
    { name: "Limit", number: true },
    { name: "Since", number: true, className: "narrow-out" },
    { name: "Clears", number: true },
  ]);
  const node = section("Blocked now", {}, kinds, el("div", { class: "scroll" }, rows));
  let shown = [];

  function draw() {
    setList(body, shown, { key: ({ decision_id: id }) => id, make: row, update });
  }

  return {
    node,
    tick: draw,
    show({ blocks, total, by_limit: byLimit }) {
      shown = blocks;
      rows.hidden = blocks.length === 0;
      const names = Object.entries(byLimit).map(([name, number]) => `${limitName(name)} ${count(number)}`);
      const rest = total > blocks.length ? ` The newest ${count(blocks.length)} of ${count(total)} are shown.` : "";
      setText(kinds, total ? `${names.join(", ")}.${rest}` : "Nothing is blocked.");
      draw();
    },
  };
}

function row(block) {
  const { organization_id: id, limit_name: name, limit, observed } = block;
  const scope = scopeOf(block.scope);
  const shown = (value) => amount(name, isMoney(name) ? value / MICRO : value);
  return el(
    "tr",
    { title: block.decision_id },
    el("th", { scope: "row" }, id ?? "not known here"),
    el("td", {}, blockedName({ scope, limit_name: name })),
    el("td", { class: "soft narrow-out" }, scopeWhole(scope)),
    el("td", { class: "number" }, shown(observed)),
    el("td", { class: "number" }, shown(limit)),
    el("td", { class: "number narrow-out" }),
    el("td", { class: "number" }),
  );
}

function update(line, { decided_at: decidedAt, until }) {
  const [since, clears] = [...line.children].slice(-2);
  setText(since, `${duration(now() - Date.parse(decidedAt))} ago`);
  const left_ms = until === null ? null : Date.parse(until) - now();
  if (left_ms === null) setText(clears, "not by time");
  else setText(clears, left_ms > DAY_MS ? dayTime(until) : countdown(left_ms));
}
