// Whether the books agree: ledger, rollups and ClickHouse.

import { el, setList, setText } from "../dom.js";
import { count, creditsExact, dayTime } from "../format.js";
import { section } from "../parts.js";

const MICRO = 1e6;
const PAIRS = {
  ledger_cells: "Ledger and rollups of the state",
  cells_minute: "Rollups of the state and ClickHouse's minutes",
  minute_hour: "ClickHouse's minutes and hours",
  hour_day: "ClickHouse's hours and days",
};

export function driftsSection() {
  const none = el("p", { class: "soft" }, "Not known yet.");
  const list = el("ul", { class: "alerts" });
  const node = section("Audit", {}, none, list);
  return {
    node,
    show({ drifts }) {
      none.hidden = drifts.length > 0;
      setText(none, "Ledger, rollups and ClickHouse agree.");
      setList(list, drifts, { key: ({ alert_id: id }) => id, make: item });
    },
  };
}

function item(drift) {
  const { pair, organization_id: id, month, credits_micro: micro, events, buckets_differing: buckets, fired_at: at } = drift;
  const differs = `${creditsExact(micro / MICRO)} credits and ${count(events)} events in ${count(buckets)} ${buckets === 1 ? "bucket" : "buckets"}`;
  return el(
    "li",
    { class: "alert", "data-tone": "critical" },
    el("p", { class: "alert-head" }, el("span", { class: "tag" }, "Differs"), el("span", { class: "soft small" }, `${dayTime(at)} UTC`)),
    el("p", { class: "alert-sentence" }, PAIRS[pair] ?? pair),
    el("p", { class: "alert-advice soft" }, `${id ?? "All organizations"}${month ? `, ${month}` : ""}: ${differs}. ${drift.advice}`),
  );
}
