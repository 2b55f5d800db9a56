// What is blocked now: what, why, which event, and until when.

import { announce } from "../announce.js";
import { everySecond, now } from "../clock.js";
import { el, setList, setText } from "../dom.js";
import { countdown, dayTime, duration, time } from "../format.js";
import { section } from "../parts.js";
import { blockedName, fired, scopeName, wayOut } from "../words.js";
import { whyDetails } from "./why.js";

const DAY_MS = 86_400_000;
const SHOWN_MAX = 20;

/** `show(blocks)` replaces all, `take(decision)` that of its scope and limit. */
export function blocksSection({ client, signal }) {
  const list = el("ul", { class: "blocks" });
  const none = el("p", { class: "unblocked", hidden: true }, el("span", { class: "dot", "data-tone": "good" }), "Nothing is blocked.");
  const rest = el("p", { class: "soft", hidden: true });
  const node = section("Blocked now", { class: "blocked" }, none, list, rest);
  const standing = new Map();
  let isKnown = false;

  function draw() {
    const all = [...standing.values()]
      .filter(({ until }) => until === null || Date.parse(until) > now())
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
    show(blocks) {
      standing.clear();
      for (const block of blocks) standing.set(keyOf(block), block);
      draw();
      isKnown = true;
      draw();
    },
    take(decision) {
      if (decision.verdict === "block") standing.set(keyOf(decision), decision);
      else standing.delete(keyOf(decision));
      draw();
    },
  };
}

function keyOf({ scope: { kind, id, operation, subject, label, category }, limit_name: limit }) {
  return JSON.stringify([limit, kind, id, operation, subject, label, category]);
}

function item(decision, client, signal) {
  return el(
    "li",
    { class: "block" },
    el(
      "div",
      { class: "block-what" },
      el("h3", {}, blockedName(decision)),
      el("p", {}, decision.reason ?? ""),
      el(
        "p",
        { class: "soft small" },
        `${fired(decision)}, ${scopeName(decision.scope)}. Since ${sinceText(decision.decided_at)} UTC`,
        decision.cause ? [", by event ", el("code", {}, decision.cause.event_id)] : null,
      ),
    ),
    el("p", { class: "until" }, untilText(decision)),
    whyDetails(decision, client, signal),
  );
}

function sinceText(at) {
  return now() - Date.parse(at) < DAY_MS ? time(at) : dayTime(at);
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
  return `Blocked: ${blockedName(decision)}. ${fired(decision)}. ${until}`;
}
