// Asks again after a while: not while the page is hidden, at once when it is seen again, and never sooner than told.

const FAILED_WAIT_MS = 10_000;

/**
 * Calls `ask()` now and every `every_ms` until `signal` is aborted; returns a function that asks soon (within
 * `soon_ms`, once however often it is called). An error that `ask` throws is given to `onError`; its `retryAfter_ms` is
 * obeyed.
 */
export function poll({ ask, every_ms, onError, signal, soon_ms = 400 }) {
  let timer = null;
  let dueAt = 0;
  let notBefore = 0;
  let running = false;
  let again = false;

  async function run() {
    if (signal.aborted) return;
    if (document.hidden) {
      dueAt = 0;
      return;
    }
    if (running) {
      again = true;
      return;
    }
    running = true;
    let wait_ms = every_ms;
    try {
      await ask();
    } catch (error) {
      if (signal.aborted) return;
      onError(error);
      wait_ms = error.retryAfter_ms ?? Math.min(every_ms, FAILED_WAIT_MS);
      notBefore = Date.now() + (error.retryAfter_ms ?? 0);
    } finally {
      running = false;
    }
    schedule(again ? soon_ms : wait_ms);
    again = false;
  }

  function schedule(wait_ms) {
    const at = Math.max(Date.now() + wait_ms, notBefore);
    clearTimeout(timer);
    dueAt = at;
    if (!signal.aborted) timer = setTimeout(run, at - Date.now());
  }

  function seen() {
    if (!document.hidden && dueAt <= Date.now()) run();
  }

  document.addEventListener("visibilitychange", seen);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  });
  run();
  return () => {
    if (running) again = true;
    else if (dueAt > Date.now() + soon_ms) schedule(soon_ms);
  };
}
