"""Lease requests: at the border, and in a partition."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sluicegate_schemas.decode import Malformed, decode_usage
from sluicegate_schemas.envelope import ENCODE, TICK, WireLeaseRequest
from streams.domain.tables import LeaseRow, LedgerRow
from tests.domain_world import World, key_put, organization_put
from tests.leases import leases

from .target import Target


def read_request(value: bytes) -> Any:
    """A lease request with its bounds."""
    decoded = decode_usage(value)
    if not isinstance(decoded, WireLeaseRequest):
        raise Malformed("invalid", None, "is something else")
    return decoded


def hear(value: bytes) -> str:
    """A record in a partition: no bytes lend more than there is."""
    world = World()
    world.obey(organization_put("org_acme", "free", credits_micro_per_month=100), key_put("key_acme_1", "org_acme"))
    world.durable.clear()
    world.append(value)
    totals = world.machine.totals
    told = totals.counted + totals.duplicate + totals.rejected + totals.forwarded + len(leases(world))
    rows = [msgspec.msgpack.decode(row, type=LeaseRow) for key, row in world.rows.items() if key.startswith(b"e|")]
    ledgers = [msgspec.msgpack.decode(row, type=LedgerRow) for key, row in world.rows.items() if key.startswith(b"l|")]
    assert sum(row.left_micro for row in rows) <= 100
    assert all(row.credits_micro == lease.credits_micro for row, lease in zip(rows, leases(world), strict=False))
    assert told or value == TICK or not ledgers or not rows
    world.take_over()
    return f"{len(rows)} lent, {totals.rejected} rejected"


TARGETS: Final = (
    Target("lease_request", "msgpack", read_request, (Malformed,), ENCODE),
    Target("machine_lease_request", "msgpack", hear, ()),
)
