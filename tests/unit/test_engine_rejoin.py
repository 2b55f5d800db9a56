"""A worker that loses several partitions at once asks for one new assignment, not for one after the other."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine import engine as engine_module
from streams.engine.engine import Engine
from streams.settings import Settings


class CountingEngine(Engine):
    """An engine whose group is somebody who counts."""

    rejoins = 0

    @property
    def _consumer(self) -> Any:
        return SimpleNamespace(rejoin=self._count)

    def _count(self) -> None:
        self.rejoins += 1


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CountingEngine:
    monkeypatch.setattr(engine_module, "_REJOIN_EVERY_S", 0.02)
    made = CountingEngine(Settings(), lambda partition: None)  # type: ignore[arg-type,return-value]  # no machine runs
    made._app = SimpleNamespace(should_stop=False)  # type: ignore[assignment]  # all that is asked of it
    return made


def drop_all(engine: CountingEngine) -> None:
    for number in range(4):
        runner: Any = SimpleNamespace(partition=number, ready=False, close=lambda: None)
        engine.runners[number] = runner
        engine.dropped(runner, "another worker claimed the partition after us")


async def test_a_rebalance_that_began_meanwhile_makes_further_ones_needless(engine: CountingEngine) -> None:
    drop_all(engine)
    await asyncio.sleep(0)
    assert engine.rejoins == 1
    await engine._on_revoked()
    await asyncio.gather(*engine._tasks)
    assert engine.rejoins == 1


async def test_a_rejoin_that_leads_to_nothing_is_asked_for_again(engine: CountingEngine) -> None:
    drop_all(engine)
    await asyncio.gather(*engine._tasks)
    assert engine.rejoins > 1
