// Parts that several sections share.

import { el, newId, setList, setText } from "./dom.js";
import { percent } from "./format.js";

/** A section with a heading, which names it; `tools` stand beside the heading. */
export function section(title, { tools = [], ...attributes } = {}, ...children) {
  const id = newId("heading");
  return el(
    "section",
    { "aria-labelledby": id, ...attributes },
    el("div", { class: "section-head" }, el("h2", { id }, title), ...tools),
    ...children,
  );
}

/** One of several: radio buttons that look like one switch. `options` are [value, name]. */
export function choice(legend, options, chosen, onChange) {
  const name = newId("choice");
  return el(
    "fieldset",
    { class: "choice" },
    el("legend", { class: "visually-hidden" }, legend),
    options.map(([value, text]) =>
      el(
        "label",
        {},
        el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onChange(value) }),
        text,
      ),
    ),
  );
}

/** A bar of a share from 0 to 1. It says nothing that the number beside it does not. */
export function meter() {
  return el("span", { class: "meter", "aria-hidden": "true" });
}

export function setMeter(node, share, tone = toneOf(share)) {
  node.style.setProperty("--share", String(Math.max(0, Math.min(1, share || 0))));
  setTone(node, tone);
}

/** How much of a limit is much: as the alerts have it, 80 % and 95 %. */
export function toneOf(share) {
  if (share >= 0.95) return "critical";
  return share >= 0.8 ? "warning" : "";
}

export function setTone(node, tone) {
  if (tone) node.dataset.tone = tone;
  else delete node.dataset.tone;
}

/** A table with a caption for those who cannot see what stands around it. `columns` are {name, number, hidden, className}. */
export function table(caption, columns, attributes = {}) {
  const body = el("tbody");
  const head = columns.map(({ name, number, hidden, className = "" }) =>
    el(
      "th",
      { scope: "col", class: `${number ? "number" : ""} ${className}`.trim() || null },
      hidden ? el("span", { class: "visually-hidden" }, name) : name,
    ),
  );
  const node = el(
    "table",
    attributes,
    el("caption", { class: "visually-hidden" }, caption),
    el("thead", {}, el("tr", {}, head)),
    body,
  );
  return { node, body };
}

/** The chart's figures as a table that opens on demand: `setRows` takes rows of texts. */
export function textTable(caption, names) {
  const { node, body } = table(
    caption,
    names.map((name, index) => ({ name, number: index > 0 })),
  );
  const details = el(
    "details",
    { class: "as-table" },
    el("summary", {}, "Figures as a table"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, node),
  );
  const setRows = (rows) =>
    setList(body, rows.map((cells, index) => ({ cells, index })), {
      key: ({ index }) => String(index),
      make: ({ cells }) =>
        el("tr", {}, cells.map((_, at) => (at ? el("td", { class: "number" }) : el("th", { scope: "row" })))),
      update: (row, { cells }) => cells.forEach((cell, at) => setText(row.children[at], cell)),
    });
  return { node: details, setRows };
}

/** A list of terms and values; `set(key, text)`, where null leaves the term out. */
export function facts(terms) {
  const values = new Map(terms.map(([key]) => [key, el("dd", {}, "–")]));
  const node = el(
    "dl",
    { class: "facts" },
    terms.map(([key, term]) => [el("dt", {}, term), values.get(key)]),
  );
  const set = (key, text) => {
    const value = values.get(key);
    value.hidden = value.previousSibling.hidden = text === null;
    if (text !== null) setText(value, text);
  };
  return { node, set };
}

/** Says which parts of the page could not be brought up to date, until they are: `part` is any key for one of them. */
export function failures() {
  const standing = new Map();
  const node = el("p", { class: "failed", hidden: true });

  function show() {
    const sentences = [...new Set([...standing.values()].map((sentence) => sentence.replace(/\.?$/, ".")))];
    setText(node, `${sentences.join(" ")} What is shown of it is the last that was known; trying again.`);
    node.hidden = standing.size === 0;
  }

  return {
    node,
    say(part, error) {
      standing.set(part, error.message);
      show();
    },
    clear(part) {
      if (standing.delete(part)) show();
    },
  };
}

/** "12 of 50 (24 %)". */
export function ofLimit(used, limit, format) {
  return limit === null || limit === undefined
    ? `${format(used)} (no limit)`
    : `${format(used)} of ${format(limit)} (${percent(limit ? used / limit : 1)})`;
}
