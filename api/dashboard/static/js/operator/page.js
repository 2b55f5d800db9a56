// An operator's page: what it asks for, how often, and which section shows it.

import { everySecond, now } from "../clock.js";
import { el } from "../dom.js";
import { follow } from "../events.js";
import { count, latency } from "../format.js";
import { failures } from "../parts.js";
import { poll } from "../poll.js";
import { blocksTable } from "./blocks.js";
import { consumersSection } from "./consumers.js";
import { driftsSection } from "./drifts.js";
import { glance } from "./glance.js";
import { topologySection } from "./topology.js";
import { SHOWN, trailSection } from "./trail.js";

/** Blocks come live; those that end by themselves count down here. This is for what a broken stream missed. */
const BLOCKS_MS = 30_000;
const SYSTEM_MS = 10_000;
const CONSUMERS_MS = 30_000;
const TRAIL_MS = 30_000;
const BOOKS_MS = 60_000;

/** Fills `root` until `signal` is aborted; `onRefused()` when the credential is no longer good. */
export function openOperatorPage({ root, client, status, signal, onRefused }) {
  const failed = failures();
  const facts = glance();
  const topology = topologySection();
  const consumers = consumersSection({ onChange: () => consumersSoon() });
  const blocks = blocksTable();
  const drifts = driftsSection();
  const trail = trailSection();
  root.append(
    el("div", { class: "page-head" }, el("h1", {}, "Operations"), el("p", { class: "soft" }, "All organizations")),
    failed.node,
    facts.node,
    topology.node,
    blocks.node,
    consumers.node,
    el("div", { class: "columns" }, trail.node, drifts.node),
  );
  signal.addEventListener("abort", everySecond(blocks.tick));

  function onError(error, part) {
    if (error.fatal) {
      onRefused();
      return;
    }
    failed.say(part, error);
  }

  /** Asks `path` now and then, and hands the answer to `show`. */
  function keep(path, every_ms, show, parameters = () => ({})) {
    const ask = async () => {
      show(await client.get(`operator/${path}`, parameters(), signal));
      failed.clear(show);
    };
    return poll({ ask, every_ms, onError: (error) => onError(error, show), signal });
  }

  const blocksSoon = keep("blocks", BLOCKS_MS, (found) => {
    blocks.show(found);
    facts.set("blocks", count(found.total), found.total ? "warning" : "");
    status.figures({ as_of: found.as_of, lag_ms: null });
  });
  keep("topology", SYSTEM_MS, (found) => {
    topology.showGroups(found);
    facts.set("behind", count(found.workers.lag_records), "");
    const isWhole = [found.workers, found.sink].every(({ partitions }) => partitions.every(({ owner }) => owner !== null));
    facts.set("groups", isWhole ? "All owned" : "Not all owned", isWhole ? "" : "critical");
  });
  keep("freshness", SYSTEM_MS, (found) => {
    topology.showFreshness(found);
    facts.set("decisions", latency(found.decision_lag.p99_ms), "");
    facts.set("sink", latency(found.sink.p99_ms), "");
  });
  keep("drifts", BOOKS_MS, (found) => {
    drifts.show(found);
    const number = found.drifts.length;
    facts.set("drifts", number ? `${count(number)} open` : "All agree", number ? "critical" : "");
  });
  keep("trail", TRAIL_MS, trail.show, () => ({ limit: SHOWN }));
  keep("catalogues", BOOKS_MS, trail.showCatalogues);
  const consumersSoon = keep("top-consumers", CONSUMERS_MS, consumers.show, consumers.parameters);
  status.figures({ as_of: new Date(now()).toISOString(), lag_ms: null });
  follow({
    open: (streaming, lastId) => client.live("operator/live", streaming, lastId),
    onEvent: blocksSoon, // one answer says which are the newest, and how many there are of each limit
    onState: (state, retryAt_ms) => {
      status.connection(state, retryAt_ms);
      if (state === "live") blocksSoon();
    },
    signal,
  }).catch((error) => onError(error, follow));
}
