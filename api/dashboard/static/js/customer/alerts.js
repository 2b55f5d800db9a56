// Alerts, the newest first; each once, though it fires and clears.

import { el, setList, setText } from "../dom.js";
import { dayTime } from "../format.js";
import { section, setTone } from "../parts.js";

const SHOWN_MAX = 50;
const TONES = { critical: "critical", warning: "warning" };

export function alertsSection() {
  const list = el("ul", { class: "alerts" });
  const none = el("p", { class: "empty", hidden: true }, "No alerts.");
  const node = section("Alerts", { class: "alerts-section" }, none, list);
  let known = new Map();

  function draw() {
    const alerts = [...known.values()].sort((a, b) => Date.parse(b.fired_at) - Date.parse(a.fired_at)).slice(0, SHOWN_MAX);
    known = new Map(alerts.map((alert) => [alert.alert_id, alert]));
    none.hidden = alerts.length > 0;
    setList(list, alerts, { key: ({ alert_id: id }) => id, make: item, update });
  }

  function keep(alert) {
    const before = known.get(alert.alert_id);
    if (before?.state === "cleared" && alert.state === "fired") return;
    known.set(alert.alert_id, { ...alert, advice: alert.advice || before?.advice || "" });
  }

  return {
    node,
    showPage(alerts) {
      alerts.forEach(keep);
      draw();
    },
    take(alert) {
      keep(alert);
      draw();
    },
  };
}

function item() {
  return el(
    "li",
    { class: "alert" },
    el("p", { class: "alert-head" }, el("span", { class: "tag" }), el("time", { class: "soft small" })),
    el("p", { class: "alert-sentence" }),
    el("p", { class: "alert-advice soft" }),
  );
}

function update(node, { state, severity, sentence, advice, fired_at: firedAt, cleared_at: clearedAt }) {
  const isCleared = state === "cleared";
  node.classList.toggle("is-cleared", isCleared);
  setTone(node, isCleared ? "" : TONES[severity] ?? "none");
  setText(node.querySelector(".tag"), isCleared ? "Cleared" : severity ?? "info");
  const when = node.querySelector("time");
  when.dateTime = firedAt;
  setText(when, isCleared ? `${dayTime(firedAt)} to ${dayTime(clearedAt)} UTC` : `${dayTime(firedAt)} UTC`);
  setText(node.querySelector(".alert-sentence"), sentence);
  const how = node.querySelector(".alert-advice");
  how.hidden = isCleared || !advice;
  setText(how, advice ?? "");
}
