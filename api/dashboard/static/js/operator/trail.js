// Who changed what, and why: the newest commands.

import { el, setList } from "../dom.js";
import { dayTime } from "../format.js";
import { section, table } from "../parts.js";
import { plain } from "../words.js";

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
  return {
    node,
    show({ entries }) {
      none.hidden = entries.length > 0;
      rows.hidden = entries.length === 0;
      setList(body, entries, { key: ({ command_id: id }) => id, make: row });
    },
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
