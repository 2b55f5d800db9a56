"""Alerts of a partition's world, for tests."""

from sluicegate_schemas.alerts import ALERT, UsageAlert
from sluicegate_schemas.catalogue import Catalogue
from tests.domain_world import World, default_catalogue

SECOND_MS = 1_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


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
