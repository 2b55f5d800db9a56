// The few figures that say whether all is well.

import { el, setText } from "../dom.js";
import { setTone } from "../parts.js";

const FACTS = [
  ["blocks", "Blocks now"],
  ["behind", "Events behind"],
  ["decisions", "Decision lag, p99"],
  ["sink", "ClickHouse lag, p99"],
  ["groups", "Partitions"],
  ["drifts", "Audit"],
];

/** `set(name, text, tone)`. */
export function glance() {
  const values = new Map(FACTS.map(([name]) => [name, el("dd", {}, "–")]));
  const node = el(
    "dl",
    { class: "glance" },
    FACTS.map(([name, title]) => el("div", {}, el("dt", {}, title), values.get(name))),
  );
  return {
    node,
    set(name, text, tone) {
      setText(values.get(name), text);
      setTone(values.get(name), tone);
    },
  };
}
