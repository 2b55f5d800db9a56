// The server's time: a reader's clock may be wrong by hours, and a countdown must not be.

let ahead_ms = 0;
const tickers = new Set();

/** Learns from a response's Date, which is whole seconds. */
export function learnTime(headers) {
  const date = Date.parse(headers.get("date") ?? "");
  if (Number.isNaN(date)) return;
  const difference = date + 500 - Date.now();
  ahead_ms = Math.abs(difference) < 1500 ? 0 : difference;
}

/** Now, in epoch ms. */
export function now() {
  return Date.now() + ahead_ms;
}

/** Calls `tick` once a second until the returned function is called. */
export function everySecond(tick) {
  tickers.add(tick);
  return () => tickers.delete(tick);
}

setInterval(() => {
  for (const tick of tickers) tick();
}, 1000);
