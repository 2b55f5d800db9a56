"""The recorded hour of traffic as records of the usage topic: the trace's own times, the callers' rule for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from sluicegate_schemas.envelope import ENCODE, WireCharge, WireEnvelope, WireEvent
from sluicegate_schemas.files import load_catalogue
from sluicegate_schemas.partitioning import partition_of
from stack.callers import Call, call_of, tenants_drawn
from stack.trace import read_trace

ROOT = Path(__file__).parents[1]
TRACE = ROOT / "examples/data/AzureLLMInferenceTrace_code.csv"
HOUR_MS = 3_600_000
TENANTS = (
    ("org_heron", ("key_heron_1", "key_heron_2")),
    ("org_osprey", ("key_osprey_1",)),
    ("org_finch", ("key_finch_1",)),
)
_ENVELOPE_MS = 250
_OPERATIONS = {
    "/v1/inference/embedding": "inference.embedding",
    "/v1/search/knn": "search.knn",
    "/v1/search/hybrid": "search.hybrid",
    "/v1/search/web": "search.web",
}


class Appended(NamedTuple):
    """A record of the usage topic: where, when (log time in ms) and what."""

    partition: int
    log_time_ms: int
    account_id: str
    value: bytes


def other_plan() -> str:
    """A catalogue file whose plans are narrower than those of the default one."""
    text = (ROOT / "catalogue/default.toml").read_text("utf-8")
    for old, new in (
        ("version = 1\n", "version = 7\n"),
        ("credits_per_month = 100_000\n", "credits_per_month = 9_000\n"),
        ("requests_per_second = 100, burst = 200, requests_per_minute = 600", "requests_per_second = 20, burst = 20, "
         "requests_per_minute = 100"),
        ("credits_per_month = 1_000_000\n", "credits_per_month = 2_000\n"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new, 1)
    load_catalogue(text)
    return text


@cache
def calls() -> tuple[tuple[int, str, str, Call, int], ...]:
    """(arrival in ms, organization, key, call, line) of each row of the trace."""
    drawn = tenants_drawn(TENANTS)
    found = []
    for row in read_trace(TRACE).rows:
        organization, keys = next(drawn)
        found.append((row.arrival_ms, organization, keys[row.line % len(keys)], call_of(row), row.line))
    return tuple(found)


def records(begins_ms: int, partitions: int) -> Iterator[Appended]:
    """The hour from ``begins_ms`` on, in the order of its log."""
    sequences: dict[str, int] = {}
    for slot, group in groupby(calls(), key=lambda one: one[0] // _ENVELOPE_MS):
        logged_at_ms = begins_ms + (slot + 1) * _ENVELOPE_MS
        events: dict[str, list[WireEvent]] = {}
        for at_ms, organization, key, call, line in group:
            events.setdefault(organization, []).append(_event(begins_ms + at_ms, organization, key, call, line))
        for account, sent in events.items():
            sequence = sequences[account] = sequences.get(account, 0) + 1
            value = ENCODE(WireEnvelope(1, f"node-{account}", 1, sequence, logged_at_ms, None, sent))
            yield Appended(partition_of(account, partitions), logged_at_ms, account, value)


def _event(at_ms: int, organization: str, key: str, call: Call, line: int) -> WireEvent:
    body = call.body or {}
    tokens = sum(int(body.get(name, 0)) for name in ("input_tokens", "output_tokens"))
    operation, quantities, model, charges = "collections.list", None, None, None
    match call.path.split("/")[2:]:
        case ["inference", "llm"]:
            operation, quantities = "inference.llm", {"tokens": tokens}
        case ["retrievers", *_]:
            operation = "retriever.execute"
            charges = [WireCharge("search.knn", None), WireCharge("inference.llm", {"tokens": tokens})]
        case ["documents"]:
            operation, quantities = "documents.create", {"documents": int(body["documents"])}
        case ["upload"]:
            operation, quantities = "upload.file", {"bytes": int(body["bytes"])}
        case ["videos"]:
            operation, quantities = "video.process", {"milliseconds": int(body["milliseconds"])}
        case ["clusters", *_]:
            operation, quantities = "cluster.execute", {"dataset_size": int(body["dataset_size"])}
        case ["collections"] if call.method == "POST":
            operation = "collections.create"
        case _:
            operation = _OPERATIONS.get(call.path, operation)
            model = str(body["model"]) if "model" in body else None
    return WireEvent(
        None, organization, key, operation, at_ms, at_ms + line % 40, line % 40, 200, quantities, model, False, charges
    )
