"""What a partition is told that its worker gave back and got again."""

from types import SimpleNamespace
from typing import Any

from sluicegate_schemas.catalogue import Catalogue
from streams.engine.engine import Engine
from streams.settings import Settings
from tests.domain_world import default_catalogue


async def test_it_learns_of_the_catalogue_version_that_came_while_nobody_owned_it() -> None:
    engine = Engine(Settings(), lambda partition: None)  # type: ignore[arg-type,return-value]  # no machine runs
    engine.broker = SimpleNamespace(end=_end)  # type: ignore[assignment]  # all that is asked of it
    told: list[list[Catalogue]] = []
    core = SimpleNamespace(catalogues=told.append, catalogue_seen=lambda seen_at: None)
    parked: Any = SimpleNamespace(core=core, come_back=lambda generation, state_end: True)
    known = default_catalogue()
    newer = known.model_copy(update={"version": known.version + 1})
    engine._catalogue._versions = {one.version: one for one in (newer, known)}
    assert await engine._runner(0, parked, 3) is parked
    assert told == [[known, newer]]


async def test_it_is_claimed_anew_where_the_producers_are_made_anew() -> None:
    engine = Engine(Settings(), lambda partition: None)  # type: ignore[arg-type,return-value]  # no machine runs
    closed: list[int] = []
    for lost in (False, True):
        parked: Any = SimpleNamespace(close=lambda lost=lost: closed.append(lost))
        engine._parked, engine._producer_lost = {0: parked}, lost
        assert engine._unharmed_parked() == ({} if lost else {0: parked})
    assert closed == [True]


async def _end(topic: str, partition: int) -> int:
    return 7
