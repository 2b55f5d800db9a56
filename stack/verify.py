"""The check: holds what was expected against what the ledger, ClickHouse and the nodes say.

Pure: evidence in, verdicts out. Every comparison is exact. A check that fails says which totals differ, and where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sluicegate_schemas.money import credits_text
from stack.evidence import Evidence

DIFFERENCES_SHOWN: Final = 5

Amounts = Mapping[str, int] | Mapping[tuple[str, str], int] | Mapping[tuple[str, str, str], int]
"""Amounts by name, or by several names together."""


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence that must be true, whether it is, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What the callers of this run counted, by HTTP status, and how many events there were before it.

    ``unreachable`` calls got no answer: a node may have metered them or not.
    """

    by_status: Mapping[str, int]
    unreachable: int
    events_before: int

    def metered(self) -> int:
        """Answers that come with a usage event: all but those without a known key and from a gate that is not ready."""
        return sum(count for status, count in self.by_status.items() if status not in ("401", "503"))


def check_all(evidence: Evidence, answers: Answers) -> list[Check]:
    """All checks, in the order in which usage walks through the system."""
    return [
        *_published(evidence, answers),
        *_counted(evidence),
        *_ledger(evidence),
        *_clickhouse(evidence),
        _state(evidence),
    ]


def _published(evidence: Evidence, answers: Answers) -> Iterable[Check]:
    nodes, log = evidence.nodes, evidence.log
    events = nodes.events - answers.events_before
    yield Check(
        "every answered call was metered, once",
        answers.metered() <= events <= answers.metered() + answers.unreachable,
        f"{answers.metered()} calls answered, {answers.unreachable} that got no answer, {events} events published by "
        "the nodes in this run",
    )
    missing = [place for place, content in nodes.envelopes.items() if log.envelopes.get(place) != content]
    foreign = log.envelopes.keys() - nodes.envelopes.keys()
    yield Check(
        "every published event is in the usage log as it was published",
        not missing and not foreign,
        f"{nodes.events} events in {len(nodes.envelopes)} envelopes published, {log.events_in_envelopes} events in "
        f"{len(log.envelopes)} envelopes in the log"
        + (f"; {len(missing)} envelopes are missing or differ" if missing else "")
        + (f"; {len(foreign)} envelopes are of no node" if foreign else ""),
    )


def _counted(evidence: Evidence) -> Iterable[Check]:
    log = evidence.log
    totals, workers = log.totals, log.workers
    yield _equal("events counted", totals.events_counted, evidence.clickhouse.total("events"))
    yield _equal("events rejected", totals.events_rejected, log.rejects.total())
    yield _equal("events duplicate", totals.events_duplicate, events_duplicate(evidence))
    yield Check(
        "every event outside its account's partition was brought home as it was",
        not log.forwards_wrong,
        f"{totals.events_forwarded} events"
        + "".join(f"; not offset {offset} of partition {home}" for home, offset, _ in log.forwards_wrong[:5]),
    )
    named = {"counted": totals.events_counted, "rejected": totals.events_rejected, "forwarded": totals.events_forwarded}
    counts = {"counted": workers.counted, "rejected": workers.rejected, "forwarded": workers.forwarded}
    yield _same("events by what became of them in the workers' state", named, counts, str)


def events_duplicate(evidence: Evidence) -> int:
    """Events that the workers say had been counted before, without the forwards that they sent once more."""
    return evidence.log.workers.duplicate - evidence.log.totals.forwards_repeated


def _ledger(evidence: Evidence) -> Iterable[Check]:
    totals, balances = evidence.log.totals, evidence.log.balances
    expected = {"account": totals.by_account, "organization": totals.by_organization, "key": totals.by_key}
    for kind, wanted in expected.items():
        found = {(name, month): one.used_micro for (of, name, month), one in balances.items() if of == kind}
        yield _same(f"credits by {kind} and month in the ledger", wanted, found, credits_text)
    groups: dict[tuple[str, str, str], int] = {
        (name, month, group): micro
        for (kind, name, month), balance in balances.items()
        if kind == "account"
        for group, micro in balance.breakdown_micro.items()
    }
    yield _same("credits by account, month and group in the ledger", totals.by_breakdown, groups, credits_text)
    yield _same(
        "requests by organization and month in the ledger",
        totals.requests_by_organization,
        {(name, month): one.requests for (kind, name, month), one in balances.items() if kind == "organization"},
        str,
    )


def _clickhouse(evidence: Evidence) -> Iterable[Check]:
    totals, clickhouse = evidence.log.totals, evidence.clickhouse
    amounts: Counter[str] = Counter()
    for (name, _), micro in totals.by_organization.items():
        amounts[name] += micro
    shown = {name: usage.credits_micro for name, usage in clickhouse.usage.items()}
    yield _same("credits by organization in ClickHouse", amounts, shown, credits_text)
    events = {name: usage.events for name, usage in clickhouse.usage.items()}
    yield _same("events by organization in ClickHouse", totals.events_by_organization, events, str)
    yield _equal("requests in ClickHouse", totals.requests, clickhouse.total("requests"))
    yield _equal("throttled requests in ClickHouse", totals.throttled, clickhouse.total("throttled"))
    yield _equal("decisions in ClickHouse", len(evidence.log.decisions), clickhouse.decisions)


def _state(evidence: Evidence) -> Check:
    damage = evidence.log.state_damage
    return Check("the state agrees with its own checksums", not damage, "; ".join(damage) or "every partition does")


def credits_micro_ledger(evidence: Evidence) -> int:
    """The sum of all accounts' used credits over all months."""
    return sum(balance.used_micro for (kind, _, _), balance in evidence.log.balances.items() if kind == "account")


def _equal(name: str, expected: int, found: int) -> Check:
    said = f"{found}" if expected == found else f"expected {expected}, found {found} ({found - expected:+d})"
    return Check(name, expected == found, said)


def _same(name: str, expected: Amounts, found: Amounts, show: Callable[[int], str]) -> Check:
    """Equal under every name; a name that is missing counts 0."""
    wanted, seen = _named(expected), _named(found)
    differences = [
        f"{one}: expected {show(wanted[one])}, found {show(seen[one])}"
        for one in sorted({*wanted, *seen})
        if wanted[one] != seen[one]
    ]
    if not differences:
        return Check(name, True, f"{show(seen.total())} over {len(seen)}")
    more = f" and {len(differences) - DIFFERENCES_SHOWN} more" if len(differences) > DIFFERENCES_SHOWN else ""
    return Check(name, False, "; ".join(differences[:DIFFERENCES_SHOWN]) + more)


def _named(amounts: Amounts) -> Counter[str]:
    return Counter({name if isinstance(name, str) else " ".join(name): amount for name, amount in amounts.items()})


def scenes_played(scenes: Mapping[str, Mapping[str, object]]) -> Check:
    """Whether every scene was refused by its limit and let in again."""
    unfinished = [
        f"{name}: {act['failure'] or ('not let in again' if act['refused_by'] else 'not refused')}"
        for name, act in scenes.items()
        if not act["cleared_by"]
    ]
    detail = "; ".join(unfinished) or f"{len(scenes)} scenes"
    return Check("each kind of block was shown, and cleared", bool(scenes) and not unfinished, detail)


def failure_sentence(checks: Iterable[Check]) -> str | None:
    """None where all checks hold; else one sentence that names those that do not."""
    failed = [check for check in checks if not check.ok]
    if not failed:
        return None
    return "The totals do not agree: " + "; ".join(f"{check.name} ({check.detail})" for check in failed) + "."
