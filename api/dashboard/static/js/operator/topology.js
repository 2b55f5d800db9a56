// The path of an event through the system, and how far each part of it is.

import { el, setList, setText } from "../dom.js";
import { count, latency } from "../format.js";
import { section, setTone, table } from "../parts.js";

const STAGES = [
  ["usage", "Usage log"],
  ["workers", "Workers"],
  ["decisions", "Gates"],
  ["state", "State log"],
  ["sink", "Sink"],
  ["history", "ClickHouse"],
];
const BEHIND_MUCH = 10_000;
const COLUMNS = [
  { name: "Partition" },
  { name: "Owner" },
  { name: "Behind", number: true },
  { name: "Taken in up to", number: true },
  { name: "End", number: true },
];

export function topologySection() {
  const stages = new Map(STAGES.map(([key]) => [key, el("p", { class: "stage-figure" }, "–")]));
  const path = el(
    "ol",
    { class: "path" },
    STAGES.map(([key, name]) => el("li", { class: "stage" }, el("h3", {}, name), stages.get(key))),
  );
  const groups = [groupPart("Workers on the usage log"), groupPart("Sink on the state log")];
  const node = section("Path of an event", { class: "topology" }, path, groups.map((group) => group.node));
  return {
    node,
    showGroups({ workers, sink }) {
      setText(stages.get("usage"), `${count(workers.partitions.length)} partitions, ${count(workers.lag_records)} behind`);
      setText(stages.get("workers"), groupText(workers));
      setText(stages.get("state"), `${count(sink.partitions.length)} partitions, ${count(sink.lag_records)} behind`);
      setText(stages.get("sink"), groupText(sink));
      groups[0].show(workers);
      groups[1].show(sink);
    },
    showFreshness({ decision_lag: decisions, sink, balances_staleness_ms: stale_ms }) {
      setText(stages.get("decisions"), `decisions in force after ${latency(decisions.median_ms)}, balances ${latency(stale_ms)} old`);
      setText(stages.get("history"), sink.inserts ? `visible after ${latency(sink.p50_ms)}, p99 ${latency(sink.p99_ms)}` : "no inserts lately");
    },
  };
}

function groupText({ members, state }) {
  return `${count(members)} ${members === 1 ? "member" : "members"}, ${state.toLowerCase()}`;
}

/** A strip with one cell for each partition, and the table that says the same. */
function groupPart(title) {
  const strip = el("span", { class: "strip", "aria-hidden": "true" });
  const { node: rows, body } = table(title, COLUMNS);
  const node = el(
    "details",
    { class: "group" },
    el("summary", {}, title, " ", strip),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, rows),
  );
  return {
    node,
    show({ partitions }) {
      const key = ({ partition }) => String(partition);
      setList(strip, partitions, {
        key,
        make: () => el("span", { class: "cell" }),
        update: (cell, { owner, lag_records: behind }) => setTone(cell, toneOf(owner, behind)),
      });
      setList(body, partitions, { key, make: row, update });
    },
  };
}

function toneOf(owner, behind) {
  if (owner === null) return "critical";
  return behind >= BEHIND_MUCH ? "warning" : "";
}

function row({ partition }) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, String(partition)),
    el("td"),
    ["", "", ""].map(() => el("td", { class: "number" })),
  );
}

function update(node, { owner, lag_records: behind, committed, end }) {
  [owner ?? "nobody", count(behind), count(committed), count(end)].forEach((text, index) => {
    setText(node.children[index + 1], text);
  });
}
