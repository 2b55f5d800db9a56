// Numbers and times as readers see them. Times are shown in UTC, which months, resets and limits are counted in.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const CREDITS = new Intl.NumberFormat("en", { maximumFractionDigits: 1, roundingMode: "trunc" });
const EXACT = new Intl.NumberFormat("en", { maximumFractionDigits: 6 });
const PERCENT = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
const PERCENT_FINE = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const utc = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
const DAY = utc({ day: "numeric", month: "short" });
const DAY_TIME = utc({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const TIME = utc({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const TIME_SHORT = utc({ hour: "2-digit", minute: "2-digit" });
const MONTH = utc({ month: "long", year: "numeric" });

export const UNKNOWN = "–";

const orUnknown = (format) => (value) =>
  value === null || value === undefined || Number.isNaN(value) ? UNKNOWN : format(value);

/** A count. */
export const count = orUnknown((value) => WHOLE.format(value).replace("-", "−"));
/** A count in few signs, for axes: 1.2K. */
export const short = orUnknown((value) => SHORT.format(value));
/** Credits, cut to tenths: never more than there are. */
export const credits = orUnknown((value) => CREDITS.format(value));
/** Credits as exact as they are counted, to the millionth. */
export const creditsExact = orUnknown((value) => EXACT.format(value).replace("-", "−"));
/** A share, 0 to 1. */
export const percent = orUnknown((value) => (value > 0 && value < 0.1 ? PERCENT_FINE : PERCENT).format(value));

const instant = (format) => orUnknown((value) => format.format(new Date(value)));
export const day = instant(DAY);
export const dayTime = instant(DAY_TIME);
export const time = instant(TIME);
export const timeShort = instant(TIME_SHORT);
export const month = instant(MONTH);

/** A length of time in ms, in its two largest units: 3 d 4 h, 1 h 5 min, 42 s. */
export function duration(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** A countdown that keeps its width: 0:42, 1:05:09; from a day on as `duration`. */
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  if (s >= 86_400) return duration(ms);
  const parts = s >= 3600 ? [Math.floor(s / 3600), Math.floor((s % 3600) / 60), s % 60] : [Math.floor(s / 60), s % 60];
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : String(part))).join(":");
}

/** How long something took: 41 ms, 1.2 s, 3 min 5 s. */
export const latency = orUnknown((ms) => {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms);
});
