// The organizations that use most.

import { el, setList, setText } from "../dom.js";
import { count, credits, percent } from "../format.js";
import { choice, meter, section, setMeter, table } from "../parts.js";

const MICRO = 1e6;
const SHOWN_MAX = 20;

export function consumersSection({ onChange }) {
  let period = "day";
  const { node: rows, body } = table("The organizations that use most, the costliest first", [
    { name: "Organization" },
    { name: "Credits", number: true },
    { name: "Share of these", number: true, className: "narrow-out" },
    { name: "Compared", hidden: true, className: "narrow-out" },
    { name: "Requests", number: true },
    { name: "Throttled", number: true },
    { name: "Errors", number: true, className: "narrow-out" },
  ]);
  const none = el("p", { class: "empty", hidden: true }, "Nothing was used in this time.");
  const tool = choice("Time", [["day", "Today"], ["month", "This month"]], period, (value) => {
    period = value;
    onChange();
  });
  const node = section("Top consumers", { tools: [tool] }, none, el("div", { class: "scroll" }, rows));
  return {
    node,
    parameters: () => ({ period, limit: SHOWN_MAX }),
    show({ consumers }) {
      none.hidden = consumers.length > 0;
      rows.hidden = consumers.length === 0;
      const total = consumers.reduce((sum, { credits_micro: micro }) => sum + micro, 0);
      const most = Math.max(1, ...consumers.map(({ credits_micro: micro }) => micro));
      setList(body, consumers, {
        key: ({ organization_id: id }) => id,
        make: row,
        update: (line, one) => update(line, one, total, most),
      });
    },
  };
}

function row({ organization_id: id }) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, id),
    el("td", { class: "number" }),
    el("td", { class: "number narrow-out" }),
    el("td", { class: "bar narrow-out" }, meter()),
    el("td", { class: "number" }),
    el("td", { class: "number" }),
    el("td", { class: "number narrow-out" }),
  );
}

function update(line, { credits_micro: micro, requests, throttled, errors }, total, most) {
  const [, spent, share, , asked, held, failed] = line.children;
  setText(spent, credits(micro / MICRO));
  setText(share, percent(total > 0 ? micro / total : 0));
  setMeter(line.querySelector(".meter"), micro / most, "");
  setText(asked, count(requests));
  setText(held, count(throttled));
  setText(failed, count(errors));
}
