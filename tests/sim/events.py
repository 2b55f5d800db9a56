"""Usage events of every sort, drawn: good, late, ahead, at the edge of a month, wrong in each way that has a name."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.convert import from_wire
from sluicegate_schemas.envelope import ENCODE, WireCharge, WireEnvelope, WireEvent

from .plan import DAY_MS, HOUR_MS, MINUTE_MS
from .tenants import TENANTS, Tenant

Random = random.Random
Quantities = dict[str, int] | None

# Operations with their weights and what they need.
OPERATIONS: Final[tuple[tuple[str, int, Callable[[Random], Quantities]], ...]] = (
    ("documents.get", 12, lambda draw: None),
    ("search.knn", 14, lambda draw: None),
    ("search.hybrid", 4, lambda draw: {"requests": draw.randrange(1, 4)}),
    ("search.web", 12, lambda draw: None),
    ("documents.create", 6, lambda draw: {"documents": draw.randrange(0, 12)}),
    (
        "inference.llm",
        8,
        lambda draw: {"tokens": draw.choice((0, 1, 999, 1_000, 1_001, 25_000, draw.randrange(9_000)))},
    ),
    ("inference.embedding", 6, lambda draw: None),
    ("cluster.execute", 6, lambda draw: {"dataset_size": draw.choice((1, 1_000, 1_001, 10_000, 100_000, 100_001))}),
    ("upload.file", 4, lambda draw: {"bytes": draw.randrange(5_000_000)}),
    ("video.process", 3, lambda draw: {"milliseconds": draw.randrange(90_000)}),
    ("retriever.execute", 5, lambda draw: None),
    ("collections.create", 3, lambda draw: None),
    ("batch.submit", 4, lambda draw: None),
    ("never.heard", 2, lambda draw: {"requests": draw.randrange(1, 3)}),
)
_NAMES: Final = [one[0] for one in OPERATIONS]
_WEIGHTS: Final = [one[1] for one in OPERATIONS]
_QUANTITIES: Final = {one[0]: one[2] for one in OPERATIONS}
LABELS: Final = {"pipeline": "nightly"}
SUBJECTS: Final = ("batch.submit", "cluster.execute")
GATED_WEIGHT: Final = 8
"""Of the tenants that nobody uses but through a gateway."""
MODELS: Final = (None, "text-small", "text-large", "multimodal-large", "never-heard-of")
_LAGS_MS: Final = (
    *(0,) * 30,
    20,
    700,
    3_000,
    -2_000,
    -40_000,
    59_000,
    61_000,
    130_000,
    HOUR_MS,
    3 * HOUR_MS,
    23 * HOUR_MS,
    25 * HOUR_MS,
    3 * DAY_MS,
    6 * DAY_MS,
)


def some_tenant(draw: Random) -> Tenant:
    """A tenant; few have most of the traffic."""
    return draw.choices(TENANTS, [one.weight for one in TENANTS])[0]


def some_caller(draw: Random) -> Tenant:
    """A tenant of which a gateway has a request."""
    return draw.choices(TENANTS, [one.weight or GATED_WEIGHT for one in TENANTS])[0]


def some_subject(draw: Random, operation: str) -> str | None:
    """The batch or cluster that a request is about; few, so that they meet."""
    return f"s{draw.randrange(3)}" if operation in SUBJECTS and draw.random() < 0.9 else None


def some_key(draw: Random, tenant: Tenant) -> str:
    """One of the tenant's keys, mostly the first."""
    return tenant.keys[0] if draw.random() < 0.6 else draw.choice(tenant.keys)


def some_operation(draw: Random) -> tuple[str, Quantities, str | None, list[WireCharge] | None]:
    """(operation, quantities, model, charges) of one request."""
    name = draw.choices(_NAMES, _WEIGHTS)[0]
    model = draw.choice(MODELS) if name.startswith("inference") else None
    charges = None
    if name == "retriever.execute" or draw.random() < 0.03:
        charges = [_charge(draw) for _ in range(draw.randrange(1, 4))]
    return name, _QUANTITIES[name](draw), model, charges


def _charge(draw: Random) -> WireCharge:
    name = draw.choices(_NAMES, _WEIGHTS)[0]
    model = draw.choice(MODELS) if name.startswith("inference") else None
    return WireCharge(name, _QUANTITIES[name](draw), model, draw.random() < 0.15)


def some_event(
    draw: Random, now_ms: int, *, tenant: Tenant | None = None, event_id: str | None = None, lag_ms: int | None = None
) -> WireEvent:
    """A good event that ended ``lag_ms`` ago."""
    tenant = tenant or some_tenant(draw)
    operation, quantities, model, charges = some_operation(draw)
    ts_ms = now_ms - (draw.choice(_LAGS_MS) if lag_ms is None else lag_ms)
    took_ms = draw.choice((0, 0, 5, 30, 400))
    status = draw.choice((200,) * 14 + (201, 404, 429, 500, 302))
    labels = LABELS if draw.random() < 0.05 else None
    delta = {"collections": draw.choice((1, 1, 2, 3, -2))} if operation == "collections.create" else None
    return WireEvent(
        event_id,
        tenant.organization_id,
        some_key(draw, tenant),
        operation,
        ts_ms - took_ms,
        ts_ms,
        took_ms,
        status,
        quantities,
        model,
        draw.random() < 0.08,
        charges,
        labels,
        delta,
        some_subject(draw, operation),
        tenant.account_id if tenant.account_id != tenant.organization_id else None,
    )


def some_sample(draw: Random, now_ms: int) -> WireEvent:
    """A storage sample, which has no key."""
    tenant = some_tenant(draw)
    ts_ms = now_ms - draw.choice((0, 0, 0, 1_000, HOUR_MS, 2 * DAY_MS))
    return WireEvent(
        None, tenant.organization_id, None, "storage", ts_ms, ts_ms, 0, draw.choice((200,) * 9 + (500,)),
        {"bytes": draw.randrange(5 * 10**12)},
        account_id=tenant.account_id if tenant.account_id != tenant.organization_id else None,
    )  # fmt: skip


def edge_ms(draw: Random, now_ms: int) -> int:
    """A time on, just before or just after a month's first millisecond: of this month, or of the next if it is near."""
    now = from_epoch_ms(now_ms)
    this_ms = to_epoch_ms(datetime(now.year, now.month, 1, tzinfo=UTC))
    next_ms = to_epoch_ms(datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC))
    edge = next_ms if next_ms - now_ms < 4 * MINUTE_MS else this_ms
    return edge + draw.choice((-1, 0, 0, 1, -1_000, 999))


# ---- the same events as other clients write them ----


def as_json(event: WireEvent) -> bytes:
    """A foreign client's JSON; the event has an id."""
    return from_wire(event).model_dump_json(exclude_defaults=True).encode()


def as_cloud_event(event: WireEvent) -> bytes:
    """The same in CloudEvents' structured mode."""
    data = json.loads(as_json(event))
    event_id, ts = data.pop("id"), data.pop("ts")
    kind = "sluicegate.usage.v1"
    body = {"specversion": "1.0", "id": event_id, "source": "urn:sim", "type": kind, "time": ts, "data": data}
    return json.dumps(body).encode()


# ---- poison ----


def _records(draw: Random, now_ms: int) -> Callable[[], bytes | None]:
    good = some_event(draw, now_ms, event_id=f"poison-{draw.getrandbits(40)}", lag_ms=0)
    whole = ENCODE(WireEnvelope(1, "poisoner", 1, 1, now_ms, None, [good]))
    text = as_json(good)
    return draw.choice((
        lambda: None,
        lambda: b"",
        lambda: b"  \n ",
        lambda: b"credits please",
        lambda: b"\xff\xfe{}",
        lambda: b'{"id": "a", "id": "b"}',
        lambda: text[:-1] + b', "surprise": 1}',
        lambda: text[:-9],
        lambda: whole[: draw.randrange(2, len(whole))],
        lambda: b"\x97\x09" + whole[2:],
        lambda: b'{"pad": "' + b"x" * 66_000 + b'"}',
    ))  # fmt: skip


def poison_record(draw: Random, now_ms: int) -> bytes | None:
    """A record that holds no event at all."""
    return _records(draw, now_ms)()


def _change(**fields: Any) -> Callable[[WireEvent], None]:
    def change(event: WireEvent) -> None:
        for name, value in fields.items():
            setattr(event, name, value)

    return change


def _move(lag_ms: int) -> Callable[[WireEvent], None]:
    def change(event: WireEvent) -> None:
        event.ts_ms -= lag_ms
        event.started_at_ms -= lag_ms

    return change


BAD_EVENTS: Final = (
    _change(org_id="org_nobody"),
    _change(api_key_id="key_nobody"),
    _change(api_key_id="key_dogwood_0", org_id="org_ash", account_id=None),
    _change(account_id="org_cedar"),
    _change(status=99),
    _change(quantities={"tokens": -1}),
    _change(quantities={"wishes": 1}),
    _change(operation="cluster.execute", quantities=None, status=200, charges=None),
    _change(operation="NOT AN OPERATION"),
    _change(model="no model|at all"),
    _change(api_key_id=None),
    _change(org_id="org_ash|evil"),
    _move(8 * DAY_MS),
    _move(-6 * MINUTE_MS),
)


def bad_event(draw: Random, now_ms: int) -> WireEvent:
    """An event that a worker has to reject."""
    event = some_event(draw, now_ms, lag_ms=0)
    draw.choice(BAD_EVENTS)(event)
    return event
