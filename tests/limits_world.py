"""Commands and looks for tests of limits, beside ``domain_world``."""

from typing import Any

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.envelope import ENCODE, GAUGE_VERSION, WireGauge, WireInFlight
from sluicegate_schemas.outputs import Decision
from tests.domain_world import World, command


def newest(world: World, limit_name: str, scope: str | None = None) -> Decision:
    """The newest decision of a limit."""
    return [one for one in world.decisions if one.limit_name == limit_name and scope in (None, one.scope.text())][-1]


def exemption_put(limit_name: str, *, from_ms: int, until_ms: int, org: str = "org_a", **fields: Any) -> bytes:
    """The command record that takes a limit off for a time."""
    times = {name: from_epoch_ms(ms).isoformat() for name, ms in (("effective_at", from_ms), ("until", until_ms))}
    name = f"exempt-{org}-{limit_name}".replace("_", "-")
    return command(name, None, "exemption.put", org, {"exemption_id": name, "limit_name": limit_name} | times | fields)


def quota_recount(org: str = "org_a", command_id: str = "recount", **counts: int) -> bytes:
    """The command record that sets how much of each resource an organization holds."""
    return command(command_id, None, "quota.recount", org, {"counts": counts})


def gauge(
    in_flight: int | None = None,
    *,
    node: str = "node-1",
    boot: str = "boot-1",
    sequence: int = 1,
    ttl_ms: int = 5_000,
    account: str = "org_a",
    org: str = "org_a",
    subjects: list[tuple[str, str, int]] | None = None,
    organizations: list[WireInFlight] | None = None,
) -> bytes:
    """The record in which a node says what it serves; of one organization unless ``organizations`` are given."""
    if organizations is None:
        organizations = [] if in_flight is None else [WireInFlight(org, in_flight, subjects or [])]
    return ENCODE(WireGauge(GAUGE_VERSION, node, boot, sequence, ttl_ms, account, organizations))
