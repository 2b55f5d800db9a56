"""What a request pays at the gate, in process, beside one decision of a well-kept rate limiting library."""

import json
import statistics
import time
from collections.abc import Callable, Collection
from typing import Final

from sluicegate.gate import Answer, Gate
from tests.bench import limiter_server
from tests.bench.session import Session
from tests.gating import NOW_MS, Known, catalogue_record, decision_record, key_record, organization_record

_KEYS: Final = 1_000
_CHECKS: Final = 50_000
_AT_ONCE: Final = 100


def _secret(number: int) -> str:
    return f"sk_live_bench_key_{number:06d}"


def _gate(*, blocked: bool) -> Gate:
    known = Known().learn(catalogue_record())
    for number in range(_KEYS):
        name, organization = f"key_bench_{number}", f"org_bench_{number}"
        known.learn(
            organization_record(organization), key_record(_secret(number), name=name, organization=organization)
        )
        if blocked:
            known.learn(decision_record(name=name, until_ms=NOW_MS + 3_600_000))
    return Gate(known, clock=lambda: NOW_MS)


def _median_us(gate: Gate, use: Callable[[Answer], object], *, allowed: bool) -> float:
    """Of one check, with each key once a second: its buckets are never empty."""
    secrets = [_secret(number) for number in range(_KEYS)]
    times = []
    for at in range(0, _CHECKS, _AT_ONCE):
        chosen = [secrets[number % _KEYS] for number in range(at, at + _AT_ONCE)]
        now_ms = NOW_MS + at
        answer = gate.check(chosen[0], "search.knn", now_ms=now_ms)
        assert answer.allowed == allowed, answer
        began = time.perf_counter()
        for secret in chosen:
            use(gate.check(secret, "search.knn", now_ms=now_ms))
        times.append((time.perf_counter() - began) / _AT_ONCE * 1e6)
    return statistics.median(times)


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    figures: dict[str, float] = {}
    if "gate_check_us" in wanted:
        figures["gate_check_us"] = _median_us(_gate(blocked=False), lambda answer: answer.allowed, allowed=True)
    if "gate_headers_us" in wanted:
        figures["gate_headers_us"] = _median_us(_gate(blocked=False), lambda answer: answer.headers, allowed=True)
    if "gate_refusal_us" in wanted:
        refusal = _median_us(_gate(blocked=True), lambda answer: (answer.headers, answer.body), allowed=False)
        figures["gate_refusal_us"] = refusal
    if {"limits_memory_us", "limits_redis_us"} & set(wanted):
        figures |= json.loads(session.peer("limits_costs"))
    if "limiter_server_us" in wanted and (server_us := limiter_server.request_us(session)) is not None:
        figures["limiter_server_us"] = server_us
    return {name: figure for name, figure in figures.items() if name in wanted}
