"""A worker knows so many catalogue versions and no more, and every worker the same ones."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from sluicegate_schemas.catalogue import CatalogueRecord
from streams.engine.followers import CatalogueFollower
from streams.settings import Settings
from tests.domain_world import default_catalogue

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def record(version: int) -> bytes:
    catalogue = default_catalogue().model_copy(
        update={"version": version, "effective_at": BEGIN + timedelta(days=version)}
    )
    return CatalogueRecord(catalogue=catalogue, published_at=BEGIN, published_by="tests").model_dump_json().encode()


class Listening:
    """A runner whose core notes the versions that it is told of."""

    def __init__(self) -> None:
        self.core = self
        self.versions: list[int] = []

    def catalogues(self, versions: list[Any]) -> None:
        self.versions = [one.version for one in versions]


@pytest.mark.parametrize("seed", [None, 1])
def test_of_too_many_versions_the_ones_that_took_effect_first_go_in_whatever_order_they_come(seed: int | None) -> None:
    values = [record(version) for version in range(1, 301)]
    if seed is not None:
        Random(seed).shuffle(values)
    runner: Any = Listening()
    follower = CatalogueFollower(None, Settings(), lambda: [runner])  # type: ignore[arg-type]  # it reads nothing here
    for value in values:
        follower._take(value)
    follower.brief(runner)
    assert runner.versions == list(range(45, 301))
