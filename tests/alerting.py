"""Alerts of a partition's world, for tests."""

import json
from datetime import UTC, datetime

from sluicegate_schemas.alerts import ALERT, UsageAlert
from sluicegate_schemas.catalogue import Catalogue
from tests.domain_world import NOW_MS, World, default_catalogue, key_put, organization_put, usage

SECOND_MS = 1_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MONTH_END_MS = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)


def alerts_of(world: World) -> list[UsageAlert]:
    """All usage alerts that were published, in order."""
    found = []
    for record in world.durable:
        if record.topic == "alerts":
            alert = ALERT.validate_json(record.value)
            assert isinstance(alert, UsageAlert)
            assert record.key == alert.alert_id.encode()
            assert record.partition == -1
            found.append(alert)
    return found


def told(world: World) -> list[str]:
    """The alerts as ``rule fired`` or ``rule cleared``."""
    return [f"{alert.rule} {alert.state}" for alert in alerts_of(world)]


def with_rules(*names: str, **changes: object) -> Catalogue:
    """The default catalogue with only these rules, and with collections.create as an operation that creates."""
    catalogue = default_catalogue()
    rules = tuple(rule for rule in catalogue.alert_rules if rule.name in names)
    assert len(rules) == len(names)
    creation = catalogue.operations["collections.create"].model_copy(update={"creates": "collections"})
    operations = {**catalogue.operations, "collections.create": creation}
    return catalogue.model_copy(update={"alert_rules": rules, "operations": operations, **changes})


def credit_world(*rules: str, credits_micro: int = 1_000_000_000, at: int = NOW_MS) -> World:
    """org_a with so many credits a month, and its keys."""
    world = World(catalogues=[with_rules(*rules)])
    world.obey(organization_put(credits_micro_per_month=credits_micro), key_put(), key_put("key_t", mode="test"), at=at)
    world.durable.clear()
    return world


def spend(world: World, amount: int, at: int, operation: str = "documents.create") -> None:
    """Uses so many credits; a second later somebody looks."""
    if amount:
        world.send(usage(operation, ts=at, quantities={"documents": amount}), at=at)
    world.pass_time(at + SECOND_MS)


def throttle(world: World, times: int, at: int, key: str = "key_a") -> None:
    """So many answers 429; a second later somebody looks."""
    world.send(*[usage(status=429, ts=at, key=key) for _ in range(times)], at=at)
    world.pass_time(at + SECOND_MS)


def budget(world: World, amount: int, at: int, **fields: object) -> None:
    """Puts a budget of so many credits."""
    command = {
        "kind": "budget.put",
        "command_id": f"budget-{at}",
        "issued_at": "2026-01-01T00:00:00Z",
        "issued_by": "tests",
        "account_id": "org_a",
        "organization_id": "org_a",
        "period": "day",
        "credits_micro": amount * 1_000_000,
        "thresholds_percent": [50, 90, 100],
    }
    world.obey(json.dumps(command | fields).encode(), at=at)
