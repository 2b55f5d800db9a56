// Limits and decisions in words. A limit that is not known here is shown by its own name.

import { count, credits } from "./format.js";

const CATEGORIES = ["metadata", "data", "search", "upload", "compute"];
const LIMITS = {
  requests_per_second: "Requests a second",
  requests_per_minute: "Requests a minute",
  concurrency: "Requests at a time",
  credits: "Credits of the month",
  budget_day: "Budget of the day",
  budget_month: "Budget of the month",
  operation_interval: "Once for each subject in a while",
  operation_concurrency: "Runs at a time",
  operation_quantity: "Quantity a minute",
  operation_results: "Results of one query",
  objects_per_batch: "Objects in one batch",
  ...Object.fromEntries(CATEGORIES.map((name) => [`${name}_per_minute`, `${capital(name)} requests a minute`])),
};
const BREAKDOWN = { inference: "Inference", search: "Search", storage: "Storage", documents: "Documents" };
const WAYS_OUT = {
  credits: "Clears at the reset, with a grant, a boost or an upgrade.",
  quota: "Clears when something is deleted, or with an upgrade.",
};

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A name made of words and underscores, for readers. */
export function plain(name) {
  return capital(String(name).replaceAll("_", " ")).replace(/^Api\b/, "API");
}

export function limitName(name) {
  if (name.startsWith("quota_")) return plain(name.slice(6));
  return LIMITS[name] ?? plain(name);
}

export function breakdownName(name) {
  return BREAKDOWN[name] ?? plain(name);
}

/** Whether a limit counts credits; all others count requests, resources or a named quantity. */
export function isMoney(limit) {
  return limit === "credits" || limit.startsWith("budget_");
}

export function amount(limit, value) {
  return isMoney(limit) ? credits(value) : count(value);
}

/** A scope's text in its parts: kind:id, then the operation and its subject, the label, or the category. */
export function scopeOf(text) {
  const [kind, id, ...rest] = text.split(":");
  if (kind === "operation") return { kind, id, operation: rest[0], subject: rest.slice(1).join(":") };
  return { kind, id, [kind]: rest.join(":") };
}

/** What a standing decision stops. */
export function blockedName({ scope, limit_name: limit }) {
  if (limit === "credits") return "Operations that cost credits";
  if (limit.startsWith("budget_")) return scope.label ? `Spending of ${scope.label}` : "Operations that cost credits";
  if (limit.startsWith("quota_")) return `Creating ${limit.slice(6).replaceAll("_", " ")}`;
  if (scope.operation) return scope.subject ? `${scope.operation} for ${scope.subject}` : scope.operation;
  if (limit.endsWith("_per_minute") && limit !== "requests_per_minute") {
    return `${capital(limit.slice(0, -"_per_minute".length))} requests`;
  }
  return limit === "concurrency" ? "More requests at a time" : "All requests";
}

/** Whom it stops, for the organization itself. */
export function scopeName({ kind, id }) {
  if (kind === "key") return id;
  return kind === "account" ? "whole account" : "whole organization";
}

/** The limit and what was seen of it: "Requests a minute: 60 of 60". */
export function fired({ limit_name: limit, limit: most, observed }) {
  return `${limitName(limit)}: ${amount(limit, observed)} of ${amount(limit, most)}`;
}

/** Whom a scope is about, for who sees all organizations. */
export function scopeWhole({ id, operation, subject, label, category }) {
  return [id, operation, subject, label, category].filter(Boolean).join(", ");
}

/** How a block ends that no time ends. */
export function wayOut(limit) {
  if (limit === "credits" || limit.startsWith("budget_")) return WAYS_OUT.credits;
  return limit.startsWith("quota_") ? WAYS_OUT.quota : "Clears when usage falls below the limit.";
}
