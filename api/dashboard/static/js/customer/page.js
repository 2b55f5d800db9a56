// A customer's page: what it asks for, how often, and which section shows it.

import { announce } from "../announce.js";
import { el } from "../dom.js";
import { count, credits } from "../format.js";
import { failures } from "../parts.js";
import { poll } from "../poll.js";
import { follow } from "../events.js";
import { plain } from "../words.js";
import { alertsSection } from "./alerts.js";
import { blocksSection } from "./blocks.js";
import { creditsSection } from "./credits.js";
import { limitsSection } from "./limits.js";
import { plansSection } from "./plans.js";
import { usageSection } from "./usage.js";

// A free key has 60 requests a minute, and this page takes part in that: these sum up to less than 8.
const USAGE_MS = 60_000;
const LIMITS_MS = 20_000;
const PROJECTION_MS = 300_000;
const SERIES_MS = 60_000;
const ALERTS_MS = 300_000;
const PLANS_MS = 900_000;

/** Fills `root` until `signal` is aborted; `onRefused()` when the key is no longer good. */
export function openCustomerPage({ root, client, status, signal, onRefused }) {
  const failed = failures();
  const heading = el("h1", {}, "Usage");
  const plan = el("p", { class: "soft" });
  const blocks = blocksSection({ client, signal });
  const balance = creditsSection();
  const usage = usageSection({ onChange: () => series.soon() });
  const plans = plansSection();
  const limits = limitsSection();
  const alerts = alertsSection();
  root.append(
    el("div", { class: "page-head" }, heading, plan),
    failed.node,
    blocks.node,
    balance.node,
    usage.node,
    plans.node,
    el("div", { class: "columns" }, limits.node, alerts.node),
  );
  signal.addEventListener("abort", () => {
    balance.close();
    usage.close();
    blocks.close();
  });

  function onError(error, part) {
    if (error.fatal) onRefused();
    else if (part === showProjection && error.status === 404) showProjection(null);
    else failed.say(part, error);
  }

  /** Asks `path` now and then, and hands the answer to `show`. */
  function keep(path, every_ms, show, parameters = () => ({})) {
    const ask = async () => {
      show(await client.get(path, parameters(), signal));
      failed.clear(show);
    };
    return poll({ ask, every_ms, onError: (error) => onError(error, show), signal });
  }

  /** Null: there is nothing yet to project from. */
  function showProjection(projection) {
    balance.showProjection(projection);
  }

  function showUsage(figures) {
    balance.showUsage(figures);
    status.figures(figures);
    const { remaining } = figures.credits;
    if (remaining !== null) announce(`${credits(remaining)} credits left`);
  }

  const refresh = [
    keep("organizations", USAGE_MS, (organization) => {
      heading.textContent = organization.id;
      plan.textContent = planSentence(organization);
      limits.showOrganization(organization);
    }),
    keep("organizations/usage", USAGE_MS, showUsage),
  ];
  const limitsSoon = keep("organizations/limits", LIMITS_MS, (figures) => {
    limits.showLimits(figures);
    blocks.show(figures.decisions);
  });
  keep("organizations/projection", PROJECTION_MS, showProjection);
  keep("organizations/alerts", ALERTS_MS, (page) => alerts.showPage(page.alerts));
  const monthSoon = keepMonth();
  const series = { soon: keep("organizations/usage/series", SERIES_MS, usage.show, usage.parameters) };
  keep("organizations/plan-fit", PLANS_MS, plans.show);

  function keepMonth() {
    return keep("organizations/usage/series", PROJECTION_MS, balance.showMonth, balance.monthParameters);
  }

  const take = {
    balance: showUsage,
    decision: (decision) => {
      blocks.take(decision);
      limitsSoon();
    },
    alert: (alert) => alerts.take(alert),
  };
  follow({
    open: (streaming, lastId) => client.live("organizations/live", streaming, lastId),
    onEvent: ({ event, data }) => take[event]?.(JSON.parse(data)),
    onState: (state, retryAt_ms) => {
      status.connection(state, retryAt_ms);
      if (state === "live") [...refresh, limitsSoon, monthSoon].forEach((soon) => soon());
    },
    signal,
  }).catch((error) => onError(error, follow));
}

function planSentence({ tier, credits_per_month: monthly }) {
  const amount = monthly === null ? "no limit on credits" : `${count(monthly)} credits a month`;
  return `${plain(tier)} plan, ${amount}`;
}
