// Why something was blocked: the decision whole, and the events before it, asked for when it is opened.

import { el } from "../dom.js";
import { count, dayTime, time } from "../format.js";
import { facts, table } from "../parts.js";
import { fired, plain } from "../words.js";

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
      body.replaceChildren(el("p", { class: "failed" }, `${error.message} Close and open this to ask again.`));
    }
  }

  const details = el("details", { class: "why", ontoggle: open }, el("summary", {}, "Why"), body);
  return details;
}

function whole({ decision, event, events, notes: found }) {
  const list = facts([
    ["fired", "Limit"],
    ["plan", "Plan"],
    ["decided", "Decided"],
    ["event", "Event"],
    ["used", "It used"],
    ["key", "Its key"],
    ["id", "Decision"],
  ]);
  list.set("fired", fired(decision));
  list.set("plan", `${plain(decision.tier)}, version ${decision.plan_version}`);
  list.set("decided", `${dayTime(decision.decided_at)} UTC`);
  list.set("event", event && `${event.id}, ${event.operation}, ${time(event.ts)} UTC`);
  list.set("used", event && quantities(event));
  list.set("key", event?.api_key_id ?? null);
  list.set("id", decision.decision_id);
  const notes = found.map((note) => el("p", { class: "soft small" }, `${plain(note)}.`));
  return [el("div", {}, list.node, notes), ...(events.length ? [before(events.toReversed())] : [])];
}

function before(events) {
  const columns = [{ name: "Before it (UTC)" }, { name: "Operation" }, { name: "Used" }, { name: "Status", number: true }];
  const { node, body } = table("Events before the decision, the newest first", columns);
  for (const event of events) {
    body.append(
      el(
        "tr",
        {},
        el("th", { scope: "row" }, time(event.ts)),
        el("td", {}, event.operation),
        el("td", {}, quantities(event)),
        el("td", { class: "number" }, String(event.status)),
      ),
    );
  }
  return el("div", { class: "scroll" }, node);
}

function quantities({ quantities: found }) {
  return Object.entries(found)
    .map(([name, value]) => `${count(value)} ${value === 1 ? name.replace(/s$/, "") : name.replaceAll("_", " ")}`)
    .join(", ");
}
