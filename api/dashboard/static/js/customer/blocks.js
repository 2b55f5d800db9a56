// What is blocked now: what, why, which event, and until when.

import { announce } from "../announce.js";
import { everySecond, now } from "../clock.js";
import { el, setList, setText } from "../dom.js";
import { countdown, dayTime, duration, time } from "../format.js";
import { section } from "../parts.js";
import { blockedName, reason, scopeName, wayOut } from "../words.js";
import { whyDetails } from "./why.js";

const DAY_MS = 86_400_000;
const SHOWN_MAX = 20;

/** `show(decisions)` replaces all, `take(decision)` one of its scope and limit. */
export function blocksSection({ client, signal }) {
  const list = el("ul", { class: "blocks" });
  const none = el("p", { class: "unblocked", hidden: true }, el("span", { class: "dot", "data-tone": "good" }), "Nothing is blocked.");
  const rest = el("p", { class: "soft", hidden: true });
  const node = section("Blocked now", { class: "blocked" }, none, list, rest);
  const standing = new Map();
  let isKnown = false;

  function draw() {
    const all = [...standing.values()]
      .filter(({ verdict, until }) => verdict === "block" && (until === null || Date.parse(until) > now()))
      .sort((a, b) => Date.parse(b.decided_at) - Date.parse(a.decided_at));
    const blocks = all.slice(0, SHOWN_MAX);
    none.hidden = !isKnown || all.length > 0;
    list.hidden = all.length === 0;
    rest.hidden = all.length <= SHOWN_MAX;
    setText(rest, `And ${all.length - SHOWN_MAX} more.`);
    node.dataset.blocks = String(all.length);
    setList(list, blocks, {
      key: ({ decision_id: id }) => id,
      make: (decision) => {
        if (isKnown) announce(sentence(decision), { urgent: true });
        return item(decision, client, signal);
      },
      update: (child, decision) => setText(child.querySelector(".until"), untilText(decision)),
    });
  }

  const stop = everySecond(draw);
  return {
    node,
    close: stop,
    show(decisions) {
      standing.clear();
      for (const decision of decisions) standing.set(keyOf(decision), decision);
      draw();
      isKnown = true;
      draw();
    },
    take(decision) {
      standing.set(keyOf(decision), decision);
      draw();
    },
  };
}

function keyOf({ scope, limit_name: limit }) {
  return JSON.stringify([limit, scope.kind, scope.id, scope.operation, scope.subject, scope.label, scope.category]);
}

function item(decision, client, signal) {
  const { cause } = decision;
  return el(
    "li",
    { class: "block" },
    el(
      "div",
      { class: "block-what" },
      el("h3", {}, blockedName(decision)),
      el("p", {}, reason(decision), el("span", { class: "soft" }, `, ${scopeName(decision.scope)}`)),
      el(
        "p",
        { class: "soft small" },
        cause ? ["Since event ", el("code", {}, cause.event_id), ` at ${time(cause.ts)} UTC`] : "Since an operator's command",
      ),
    ),
    el("p", { class: "until" }, untilText(decision)),
    whyDetails(decision, client, signal),
  );
}

function untilText({ until, limit_name: limit }) {
  if (until === null) return wayOut(limit);
  const end = Date.parse(until);
  const left_ms = end - now();
  if (left_ms >= DAY_MS) return `Until ${dayTime(end)} UTC, in ${duration(left_ms)}`;
  return `Clears in ${countdown(left_ms)}`;
}

function sentence(decision) {
  const until = decision.until === null ? wayOut(decision.limit_name) : `Clears at ${time(decision.until)} UTC.`;
  return `Blocked: ${blockedName(decision)}. ${reason(decision)}. ${until}`;
}
