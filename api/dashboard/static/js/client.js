// The API as the page uses it: same origin, the credential in the Authorization header alone.

import { learnTime } from "./clock.js";

const ROOT = new URL("../v1/", document.baseURI);
const ANSWER_MAX_MS = 20_000;
/** The page's requests count among those that its organization may have at a time: of a free plan's five it takes two. */
const AT_ONCE = 2;

/** An answer that is no success. `fatal`: the credential is not (or no longer) good. */
export class ApiError extends Error {
  constructor(status, message, retryAfter_ms = null) {
    super(message);
    this.status = status;
    this.fatal = status === 401;
    this.retryAfter_ms = retryAfter_ms;
  }
}

export class Client {
  #credential;
  #running = 0;
  #waiting = [];

  constructor(credential) {
    this.#credential = credential;
  }

  /** The JSON of `path`, which is below /v1/. Raises ApiError; status 0 means that nothing answered. */
  async get(path, parameters = {}, signal = null) {
    const url = new URL(path, ROOT);
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== null && value !== undefined) url.searchParams.set(name, value);
    }
    if (this.#running < AT_ONCE) this.#running += 1;
    else await new Promise((begin) => this.#waiting.push(begin));
    try {
      const limit = AbortSignal.timeout(ANSWER_MAX_MS);
      const response = await this.#fetch(url, {}, signal ? AbortSignal.any([signal, limit]) : limit);
      return await response.json();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running -= 1;
    }
  }

  /** An open stream of server-sent events. */
  live(path, signal, lastId) {
    const headers = { Accept: "text/event-stream" };
    if (lastId) headers["Last-Event-ID"] = lastId;
    return this.#fetch(new URL(path, ROOT), headers, signal);
  }

  async #fetch(url, headers, signal) {
    let response;
    try {
      response = await fetch(url, {
        headers: { ...headers, Authorization: `Bearer ${this.#credential}` },
        credentials: "omit",
        cache: "no-cache",
        redirect: "error",
        referrerPolicy: "no-referrer",
        signal,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "The service cannot be reached");
    }
    learnTime(response.headers);
    if (response.ok) return response;
    throw new ApiError(response.status, await sentence(response), retryAfter_ms(response));
  }
}

/** What a problem body (RFC 9457), or the contract's own error, says in one sentence. */
async function sentence(response) {
  try {
    const body = await response.json();
    const said = body.error?.message ?? body.detail ?? body.title;
    if (typeof said === "string" && said) return said;
  } catch {
    // no JSON
  }
  return `The service answered ${response.status}`;
}

function retryAfter_ms(response) {
  const seconds = Number(response.headers.get("retry-after"));
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3600) * 1000 : null;
}
