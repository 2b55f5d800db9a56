// The key that the reader signed in with. It lives in this tab's sessionStorage, which ends with the tab; it is never part
// of an address, a cookie or a log.

const STORED = "sluicegate-credential";

let held = null;

/** The credential, or null. */
export function credential() {
  if (held !== null) return held;
  try {
    held = sessionStorage.getItem(STORED);
  } catch {
    held = null; // storage may be switched off: then the key lives in memory alone
  }
  return held;
}

/** Keeps the credential of this tab; null forgets it. */
export function keepCredential(value) {
  held = value;
  try {
    if (value === null) sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, value);
  } catch {
    // memory has it
  }
}

/** Keys of customers begin like this; every other credential is an operator's. */
export function isCustomerKey(value) {
  return value.startsWith("sk_");
}
