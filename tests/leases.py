"""Lease requests and answers for tests, as nodes send and workers publish them."""

from __future__ import annotations

from itertools import count

from sluicegate_schemas.envelope import ENCODE, LEASE_REQUEST_VERSION, WireLeaseRequest
from sluicegate_schemas.outputs import Lease
from tests.domain_world import World

_NUMBERS = count(1)


def lease_request(
    wanted_micro: int = 0,
    *,
    org: str = "org_a",
    node: str = "node-1",
    request_id: str | None = None,
    needed_micro: int | None = None,
    least_micro: int = 0,
    returned: tuple[str, ...] = (),
    **fields: str,
) -> bytes:
    """A request; what is wanted is needed at once, unless ``needed_micro`` says otherwise."""
    given = {
        "version": LEASE_REQUEST_VERSION,
        "request_id": request_id or f"r-{next(_NUMBERS)}",
        "node": node,
        "boot_id": "boot-1",
        "account_id": org,
        "org_id": org,
        "limit_name": "credits",
        "scope": f"account:{org}",
        "wanted_micro": wanted_micro,
        "returned": [(lease_id, 0) for lease_id in returned],
        "needed_micro": wanted_micro if needed_micro is None else needed_micro,
        "least_micro": least_micro,
    }
    return ENCODE(WireLeaseRequest(**{**given, **fields}))


def leases(world: World) -> list[Lease]:
    """All answers so far."""
    answers = (one for one in world.durable if one.topic == "decisions")
    return [Lease.model_validate_json(one.value) for one in answers]


def ask(world: World, wanted_micro: int, at: int | None = None, **fields: object) -> Lease:
    """A node asks at log time ``at``, and is answered."""
    world.append(lease_request(wanted_micro, **fields), at)  # type: ignore[arg-type]  # the fields of lease_request
    return leases(world)[-1]
