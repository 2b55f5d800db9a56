// Why something was blocked: the decision whole, and the events before it, asked for when it is opened.

import { el } from "../dom.js";
import { dayTime, time } from "../format.js";
import { facts, table } from "../parts.js";
import { amount, limitName } from "../words.js";

/** A disclosure for `decision`. */
export function whyDetails(decision, client, signal) {
  const body = el("div", { class: "why-body", "aria-live": "polite" });
  let asked = false;

  async function open() {
    if (!details.open || asked) return;
    asked = true;
    body.replaceChildren(el("p", { class: "soft" }, "Asking …"));
    try {
      const why = await client.get(`organizations/decisions/${encodeURIComponent(decision.decision_id)}`, {}, signal);
      body.replaceChildren(...whole(why));
    } catch (error) {
      asked = false;
      body.replaceChildren(el("p", { class: "failed" }, `${error.message}. Close and open this to ask again.`));
    }
  }

  const details = el("details", { class: "why", ontoggle: open }, el("summary", {}, "Why"), body);
  return details;
}

function whole({ decision, events }) {
  const { limit_name: limit, cause } = decision;
  const list = facts([
    ["limit", "Limit"],
    ["observed", "Observed"],
    ["plan", "Plan"],
    ["decided", "Decided"],
    ["id", "Decision"],
    ["event", "Event"],
    ["position", "In the log"],
  ]);
  list.set("limit", `${limitName(limit)}: ${amount(limit, decision.limit)}`);
  list.set("observed", amount(limit, decision.observed));
  list.set("plan", `${decision.tier}, version ${decision.plan_version}`);
  list.set("decided", `${dayTime(decision.decided_at)} UTC (${time(decision.decided_at)})`);
  list.set("id", decision.decision_id);
  list.set("event", cause ? `${cause.event_id}, ${time(cause.ts)} UTC` : "none: a command");
  if (cause) {
    const { topic, partition, offset, index } = cause.position;
    list.set("position", `${topic}/${partition}/${offset}/${index}`);
  }
  const before = table("Events before the decision, the newest first", [
    { name: "Ended (UTC)" },
    { name: "Operation" },
    { name: "Status", number: true },
    { name: "Credits", number: true },
  ]);
  for (const { ts, operation, status, credits } of events ?? []) {
    before.body.append(
      el(
        "tr",
        {},
        el("th", { scope: "row" }, time(ts)),
        el("td", {}, operation),
        el("td", { class: "number" }, String(status)),
        el("td", { class: "number" }, amount("credits", credits)),
      ),
    );
  }
  return events?.length ? [list.node, el("div", { class: "scroll" }, before.node)] : [list.node];
}
