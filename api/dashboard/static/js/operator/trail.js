// Who changed what, and why: the newest commands and publications.

import { el, setList } from "../dom.js";
import { dayTime } from "../format.js";
import { section, table } from "../parts.js";
import { plain } from "../words.js";

export const SHOWN = 12;

export function trailSection() {
  const { node: rows, body } = table("The newest commands", [
    { name: "When (UTC)" },
    { name: "Who" },
    { name: "What" },
    { name: "Whom", className: "narrow-out" },
    { name: "Why", className: "narrow-out" },
  ]);
  const none = el("p", { class: "empty", hidden: true }, "Nothing was changed yet.");
  const node = section("Changes", {}, none, el("div", { class: "scroll" }, rows));
  let commands = [];
  let publications = [];

  function draw() {
    const entries = [...commands, ...publications]
      .sort((one, other) => Date.parse(other.applied_at) - Date.parse(one.applied_at))
      .slice(0, SHOWN);
    none.hidden = entries.length > 0;
    rows.hidden = entries.length === 0;
    setList(body, entries, { key: ({ command_id: id }) => id, make: row });
  }

  return {
    node,
    show({ entries }) {
      commands = entries;
      draw();
    },
    showCatalogues({ catalogues }) {
      publications = catalogues.map(published);
      draw();
    },
  };
}

function published({ version, effective_at: effective, published_by: who, published_at: at }) {
  return {
    command_id: `catalogue ${version}`,
    applied_at: at,
    issued_by: who,
    command: "catalogue.publish",
    subject: `version ${version}`,
    reason: `In force from ${dayTime(effective)}`,
  };
}

function row({ applied_at: at, issued_by: who, command, subject, reason }) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, dayTime(at)),
    el("td", {}, who),
    el("td", {}, plain(command.replaceAll(".", " "))),
    el("td", { class: "narrow-out" }, subject),
    el("td", { class: "soft narrow-out" }, reason),
  );
}
