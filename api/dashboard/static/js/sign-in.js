// The form that asks for a key.

import { el, newId, setText } from "./dom.js";

/** The form; `signIn(value)` is awaited, and what it raises is said beside the field. */
export function signInForm({ sentence, signIn }) {
  const error = el("p", { id: newId("error"), class: "sign-in-error", role: "alert" }, sentence);
  const input = el("input", {
    id: newId("key"),
    type: "password",
    name: "key",
    required: true,
    maxlength: 512,
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    "aria-describedby": error.id,
  });
  const button = el("button", { type: "submit", class: "primary" }, "Sign in");

  async function submit(event) {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    setText(error, "");
    try {
      await signIn(input.value.trim());
    } catch (failed) {
      setText(error, failed.status === 401 ? "This key is not known, or was revoked." : `${failed.message}. Try again.`);
      input.setAttribute("aria-invalid", String(failed.status === 401));
      input.focus();
    } finally {
      button.disabled = false;
    }
  }

  return el(
    "div",
    { class: "sign-in" },
    el("h1", {}, "Your usage, as it happens"),
    el("p", { class: "soft" }, "Credits left, where the month is going, limits, and why something was blocked."),
    el(
      "form",
      { method: "post", onsubmit: submit },
      el("label", { for: input.id }, "API key"),
      input,
      button,
      error,
    ),
    el(
      "p",
      { class: "soft small" },
      "The key stays in this tab and is sent to this service alone. Operators sign in with their own credential.",
    ),
  );
}
