// Server-sent events over fetch, since EventSource cannot send an Authorization header
// (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation).

/** Takes text as it comes, in pieces of any size, and calls `deliver({event, data, id})` for each whole event. */
export class EventParser {
  #deliver;
  #rest = "";
  #event = "";
  #data = [];
  #endedInCr = false;

  /** The id of the last event, which a new connection goes on from. */
  lastId = "";
  /** The wait before a new connection that the server asked for, in ms, or null. */
  retry_ms = null;

  constructor(deliver) {
    this.#deliver = deliver;
  }

  push(text) {
    let from = this.#endedInCr && text.startsWith("\n") ? 1 : 0; // the other half of a line's end
    if (text !== "") this.#endedInCr = false;
    const whole = this.#rest + text.slice(from);
    from = 0;
    for (const end of whole.matchAll(/\r\n|\r|\n/g)) {
      this.#line(whole.slice(from, end.index));
      from = end.index + end[0].length;
      this.#endedInCr = end[0] === "\r" && from === whole.length;
    }
    this.#rest = whole.slice(from);
  }

  #line(line) {
    if (line === "") {
      if (this.#data.length) this.#deliver({ event: this.#event || "message", data: this.#data.join("\n"), id: this.lastId });
      this.#event = "";
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#event = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.lastId = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retry_ms = Number(value);
  }
}

const WAIT_FIRST_MS = 1000;
const WAIT_MAX_MS = 30_000;
/** Two missed heartbeats of 15 s, and some. */
const SILENCE_MAX_MS = 35_000;

/**
 * Follows a stream until `signal` is aborted, connecting anew when it ends, fails or goes silent: after 1 s, then twice
 * as long each time, with jitter, at most 30 s; at once when the device comes back online.
 *
 * `open(signal, lastId)` answers a fetch Response. `onState("live" | "waiting", retryAt_ms)` says how it stands.
 */
export async function follow({ open, onEvent, onState, signal }) {
  const parser = new EventParser(onEvent);
  let failures = 0;
  while (!signal.aborted) {
    const connection = new AbortController();
    const stop = () => connection.abort();
    signal.addEventListener("abort", stop, { once: true });
    let wait_ms = null;
    try {
      const response = await open(connection.signal, parser.lastId);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      onState("live");
      for (;;) {
        const { done, value } = await within(SILENCE_MAX_MS, reader.read());
        if (done) break;
        failures = 0;
        parser.push(value);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.fatal) throw error;
      wait_ms = error.retryAfter_ms ?? null;
    } finally {
      connection.abort();
      signal.removeEventListener("abort", stop);
    }
    if (signal.aborted) return;
    wait_ms ??= Math.min(WAIT_MAX_MS, (parser.retry_ms ?? WAIT_FIRST_MS) * 2 ** failures) * (0.5 + Math.random() / 2);
    failures += 1;
    onState("waiting", Date.now() + wait_ms);
    await pause(wait_ms, signal);
  }
}

function within(limit_ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the stream went silent")), limit_ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
    signal.addEventListener("abort", done);
  });
}
