"""The report of a run: its totals, how fast it was, and what was checked, as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from stack.errors import StackError
from stack.evidence import Evidence
from stack.freshness import percentiles
from stack.verify import Check, credits_micro_ledger, events_duplicate

PACKAGES: Final = ("aiokafka", "chdb", "clickhouse-connect", "faust-streaming", "httpx", "uvicorn")


def make_report(
    evidence: Evidence,
    checks: Sequence[Check],
    *,
    callers: Mapping[str, Any],
    scenes: Mapping[str, Any],
    run: Mapping[str, Any],
    fresh_ms: list[int],
) -> dict[str, Any]:
    """The report. ``callers`` are this run's counts, ``scenes`` how far each scene came, ``run`` what it was asked to
    do and how long it took.

    Totals are over everything in the data folder, earlier runs included; ``gate_refusals``, ``callers`` and the
    latencies are of this run alone.

    - ``decision_latency_ms``: from the end of the causing event (its ``ts``) to when a node's gate obeys the decision;
      ``decision_latency_from_log_ms`` counts from when the broker had appended the event.
    - ``freshness_ms``: from an event's ``ts`` to when a query of ClickHouse shows it, asked about twice a second.
    """
    totals, clickhouse = evidence.log.totals, evidence.clickhouse
    answers: Mapping[str, int] = callers.get("answers", {})
    applied = [line for line in evidence.nodes.applied if line.at_ms >= run["started_at_ms"]]
    return {
        "events_published": evidence.nodes.events,
        "events_counted": clickhouse.total("events"),
        "events_rejected": evidence.log.rejects.total(),
        "events_duplicate": events_duplicate(evidence),
        "credits_micro_expected": totals.credits_micro,
        "credits_micro_ledger": credits_micro_ledger(evidence),
        "credits_micro_clickhouse": clickhouse.total("credits_micro"),
        "requests_expected": totals.requests,
        "requests_clickhouse": clickhouse.total("requests"),
        "decisions": len(evidence.log.decisions),
        "decisions_clickhouse": clickhouse.decisions,
        "decision_latency_ms": percentiles([line.at_ms - (line.cause_ts_ms or 0) for line in applied]),
        "decision_latency_from_log_ms": percentiles([line.at_ms - (line.cause_logged_at_ms or 0) for line in applied]),
        "decisions_obeyed": len(applied),
        "gate_refusals_429": answers.get("429", 0),
        "gate_refusals_403": answers.get("403", 0),
        "freshness_ms": percentiles(fresh_ms),
        "freshness_events": len(fresh_ms),
        "callers": dict(callers),
        "scenes": dict(scenes),
        "run": dict(run),
        "environment": environment(),
        "ok": all(check.ok for check in checks),
        "checks": [asdict(check) for check in checks],
    }


def environment() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``report`` to ``path``, whole or not at all.

    :raises StackError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        json.dump(report, sys.stdout, indent=2)
        raise StackError(
            f"The report {path} could not be written: {error.strerror or error}", kept="It was printed instead"
        ) from error
