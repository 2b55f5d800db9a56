"""From kill -9 of one of two workers to the first decision of the other that a gate obeys."""

import asyncio
import itertools
import signal
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.session import Session
from tests.faults import takeover
from tests.pipeline import Pipeline

_TURNS: Final = 2
SESSION_S: Final = 6.0
_NAMES: Final[Iterator[str]] = (f"takeover{number}" for number in itertools.count())


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round: the median of two deaths, in turn of both workers."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(session.kafka, session.clickhouse, next(_NAMES), Path(folder))
        for worker in ("worker-a", "worker-b"):
            pipeline.environment_of[worker] = {"SLUICEGATE_SESSION_S": str(SESSION_S)}
        try:
            turns = asyncio.run(takeover.take_over(pipeline, _TURNS, signal.SIGKILL, lambda _: None))
        finally:
            pipeline.close()
    figures = {"takeover_s": median(turn.decision_s for turn in turns)}
    return {name: figure for name, figure in figures.items() if name in wanted}
