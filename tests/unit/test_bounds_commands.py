"""What operators may give has its bounds, and what begins at once is paced."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.limits import FEATURES_MAX, FEATURES_SIGNS_MAX
from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, default_catalogue, organization_put
from tests.unit.test_overrides import HOUR_MS, between, command


def boost(number: int, organization_id: str = "org_a", begin_ms: int = NOW_MS) -> bytes:
    return command(
        "boost.put", f"{organization_id}-{number}", boost_id=f"b{number}", account_id=organization_id,
        organization_id=organization_id, concurrency=900, **between(begin_ms, NOW_MS + 2 * HOUR_MS),
    )  # fmt: skip


def test_more_boosts_and_exemptions_than_a_partition_or_an_organization_holds_are_refused() -> None:
    world = World(settings=DomainSettings(overrides_max=5, organization_overrides_max=3))
    world.obey(organization_put("org_a"), organization_put("org_b"))
    world.obey(*(boost(number) for number in range(4)), *(boost(number, "org_b") for number in range(3)))
    assert [one.detail for one in world.rejects] == [
        "an organization has 3 boosts and exemptions at most",
        "a partition holds 5 boosts and exemptions at most",
    ]
    world.obey(command("boost.end", "end", boost_id="b0"), boost(9, "org_b"))
    assert len(world.rejects) == 2, "one that ended makes room"


def test_boosts_that_begin_at_the_same_instant_begin_a_few_with_each_record() -> None:
    world = World(settings=DomainSettings(overrides_a_wake=2))
    names = [f"org_{number}" for number in range(5)]
    world.obey(*map(organization_put, names), *(boost(0, name, NOW_MS + HOUR_MS) for name in names))

    def begun() -> int:
        return sum(world.machine.plans.concurrency_of(name) == 900 for name in names)

    found = []
    for _ in range(4):
        world.pass_time(NOW_MS + HOUR_MS)
        found.append(begun())
    assert found == [2, 4, 5, 5]


@pytest.mark.parametrize(
    "features",
    [
        {f"f{number}": True for number in range(65)},
        {"words": ["w"] * 65},
        {f"f{number}": ["w" * 60] * 60 for number in range(3)},
    ],
)
def test_more_features_than_an_entitlement_holds_are_refused(features: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ACCOUNT_COMMAND.validate_json(organization_put(features=features))


def test_features_up_to_the_bound_are_taken_and_told() -> None:
    features = {f"f{number:02}": ["w" * 61] * 22 for number in range(6)}
    assert sum(len(name) + sum(map(len, words)) for name, words in features.items()) <= FEATURES_SIGNS_MAX
    world = World()
    world.obey(organization_put(features=features))
    (told,) = world.sent("entitlements")
    assert {name: told["features"][name] for name in features} == features


def words_of(letter: str) -> dict[str, list[str]]:
    """As many features as one may have, with as many signs as they may have."""
    return {f"{letter}{number:02}": ["w" * (61 if number % 2 else 64), "v" * 62] for number in range(FEATURES_MAX)}


def later_version(features: dict[str, Any]) -> Catalogue:
    first = default_catalogue()
    plans = first.plans | {"pro": first.plans["pro"].model_copy(update={"features": features})}
    effective_at = from_epoch_ms(NOW_MS + 1_000)
    return first.model_copy(update={"version": 2, "plans": plans, "effective_at": effective_at})


def test_own_features_up_to_the_bound_are_told_with_those_of_the_plan() -> None:
    world = World()
    world.obey(organization_put(features={f"own_{number}": True for number in range(FEATURES_MAX)}))
    (told,) = world.sent("entitlements")
    assert len(told["features"]) == FEATURES_MAX + len(default_catalogue().plans["pro"].features)


def test_a_version_with_as_many_features_as_fit_is_told_to_who_has_as_many_of_its_own() -> None:
    world = World()
    world.obey(organization_put(features=words_of("o")))
    world.machine.use_catalogues([*world.catalogues, later_version(words_of("p"))])
    world.pass_time(NOW_MS + 1_001)
    world.pass_time(NOW_MS + 2_000)
    assert world.sent("entitlements")[-1]["features"] == words_of("p") | words_of("o")


@pytest.mark.parametrize("field", ["operation_limits", "alert_rules"])
def test_a_catalogue_of_more_than_100_limits_or_alert_rules_is_refused(field: str) -> None:
    content = default_catalogue().model_dump(mode="json")
    rows = [content[field][0] | ({"name": f"rule_{number}"} if field == "alert_rules" else {}) for number in range(100)]
    assert Catalogue.model_validate_json(json.dumps(content | {field: rows}))
    with pytest.raises(ValidationError):
        Catalogue.model_validate_json(json.dumps(content | {field: [*rows, rows[0]]}))
