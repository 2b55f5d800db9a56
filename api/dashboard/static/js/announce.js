// What screen readers are told without being asked: one sentence at a time, and seldom.

const QUIET_MS = 20_000;
const URGENT_QUIET_MS = 3000;

let last = 0;
let waiting = null;
let timer = null;

/** Says `sentence` politely; of several within 20 s the last. An urgent one (a block) waits 3 s at most. */
export function announce(sentence, { urgent = false } = {}) {
  if (waiting?.urgent && !urgent) return;
  waiting = { sentence, urgent };
  clearTimeout(timer);
  const wait = last + (urgent ? URGENT_QUIET_MS : QUIET_MS) - Date.now();
  timer = setTimeout(speak, Math.max(0, wait));
}

function speak() {
  if (!waiting) return;
  document.getElementById("announcer").textContent = waiting.sentence;
  last = Date.now();
  waiting = null;
}
