// How fresh the page is, always in sight: live, waiting for the connection, or stale.

import { everySecond, now } from "./clock.js";
import { el, setText } from "./dom.js";
import { duration, latency, time } from "./format.js";
import { setTone } from "./parts.js";

export class Status {
  #node;
  #text = el("span");
  #dot = el("span", { class: "dot", "aria-hidden": "true" });
  #state = "connecting";
  #retryAt = 0;
  #asOf = null;
  #lag_ms = null;
  #stop = () => {};

  constructor(node) {
    this.#node = node;
    node.append(this.#dot, this.#text);
  }

  open() {
    this.#state = "connecting";
    this.#asOf = null;
    this.#lag_ms = null;
    this.#node.hidden = false;
    this.#stop = everySecond(() => this.#show());
    this.#show();
  }

  close() {
    this.#stop();
    this.#node.hidden = true;
    delete document.documentElement.dataset.stale;
  }

  /** "live", or "waiting" until `retryAt_ms` (of this device's clock). */
  connection(state, retryAt_ms = 0) {
    this.#state = state;
    this.#retryAt = retryAt_ms;
    this.#show();
  }

  /** What the newest figures say of themselves: as of when, and how far behind the log. */
  figures({ as_of, lag_ms }) {
    this.#asOf = Date.parse(as_of);
    this.#lag_ms = lag_ms;
    this.#show();
  }

  #show() {
    const isLive = this.#state === "live";
    const tone = { live: "good", connecting: "none", waiting: "warning" }[this.#state];
    setTone(this.#dot, tone);
    setTone(this.#node, isLive ? "" : tone);
    document.documentElement.toggleAttribute("data-stale", this.#state === "waiting");
    setText(this.#text, this.#sentence(isLive));
    this.#node.title = this.#asOf ? `Newest figures as of ${time(this.#asOf)} UTC` : "";
  }

  #sentence(isLive) {
    if (isLive) return this.#lag_ms === null ? "Live" : `Live · ${latency(this.#lag_ms)} behind`;
    if (this.#state === "connecting") return "Connecting";
    const since = this.#asOf ? `, figures ${duration(now() - this.#asOf)} old` : "";
    const wait_ms = this.#retryAt - Date.now();
    return `Stale${since}; ${wait_ms > 0 ? `trying again in ${duration(wait_ms)}` : "trying again"}`;
  }
}
