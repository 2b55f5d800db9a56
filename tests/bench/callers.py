"""Twenty callers of one PRO key, with the client kit and without: ``make callers CALLS=5000``, into docs/client.md.

The example service runs as a process over a real broker and worker, and the calls go over HTTP. What a bucket allows
until a moment is its capacity and its rate times the time since the first call.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from sluicegate.client import AsyncPacedTransport
from stack.report import environment
from tests.api_process import secret_of
from tests.bench.session import ROOT, Session
from tests.example_service import ExampleService
from tests.gating import CATALOGUE
from tests.pipeline import Pipeline

DOCUMENT: Final = ROOT / "docs/client.md"
HEADING: Final = "## What it saves\n"
CALLERS: Final = 20
CALLS: Final = 5_000
AT_ONCE_CALLS_MAX: Final = 1_000
"""Whoever asks again at once does so as fast as the machine can."""
PATH: Final = "/v1/collections"
"""Free of credits, and limited by the key's own buckets alone."""
REFUSED_PERCENT_MAX: Final = 1.0
OF_ALLOWED_PERCENT_MIN: Final = 95.0
_PRO: Final = CATALOGUE.plans["pro"].rates
_ANSWER_LIMIT_S: Final = 60.0


@dataclass
class Callers:
    """Callers that share a key of a PRO organization, and what they are answered.

    Without the kit they ask again ``again_s`` after a 429, until they are let in.
    """

    name: str
    api_key_id: str
    again_s: float | None
    answers: Counter[int] = field(default_factory=Counter)
    """By status, as they came over the network."""
    finished: Counter[int] = field(default_factory=Counter)
    """Calls by the status that the caller got in the end."""
    seconds: float = 0.0

    @property
    def refused_percent(self) -> float:
        """429 answers for each 100 calls."""
        return 100 * self.answers[429] / self.finished.total()

    @property
    def of_allowed_percent(self) -> float:
        """The calls let in, of those that the key's minute bucket allows in that time."""
        minute = _PRO.requests_per_minute
        return 100 * self.answers[200] / (minute + minute / 60 * self.seconds)

    async def call(self, url: str, calls: int) -> None:
        """Makes so many calls, each caller one after another."""
        todo, began = iter(range(calls)), time.monotonic()
        await asyncio.gather(*(self._one(url, todo) for _ in range(CALLERS)))
        self.seconds = time.monotonic() - began

    async def _one(self, url: str, todo: Iterator[int]) -> None:
        counting = _Counting(self.answers)
        transport = AsyncPacedTransport(transport=counting) if self.again_s is None else counting
        headers = {"Authorization": f"Bearer {secret_of(self.api_key_id)}"}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, transport=transport, timeout=_ANSWER_LIMIT_S, trust_env=False
        ) as client:
            for _ in todo:
                status = (await client.get(PATH)).status_code
                while status == 429 and self.again_s is not None:
                    await asyncio.sleep(self.again_s)
                    status = (await client.get(PATH)).status_code
                self.finished[status] += 1


class _Counting(httpx.AsyncHTTPTransport):
    """Counts each answer, those too that the kit keeps from its caller."""

    def __init__(self, answers: Counter[int]) -> None:
        super().__init__(trust_env=False)
        self._answers = answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self._answers[response.status_code] += 1
        return response


def paced() -> Callers:
    """With the kit, as it comes."""
    return Callers("the kit", "key_heron_1", None)


def waiting() -> Callers:
    """Without it, after a wait that the programmer found enough."""
    return Callers("plain httpx, tries again after 1 s", "key_heron_2", 1.0)


def at_once() -> Callers:
    """Without it, and without a wait."""
    return Callers("plain httpx, tries again at once", "key_wren_1", 0.0)


async def measure(folder: Path, session: Session, calls: int) -> list[Callers]:
    """All three; the kit's callers and the waiting ones at the same time, since neither keeps the machine busy."""
    pipeline = Pipeline(session.kafka, session.clickhouse, "callers", folder)
    service = ExampleService(pipeline.environment(), folder)
    kit, plain, hasty = paced(), waiting(), at_once()
    try:
        await pipeline.start()
        await asyncio.to_thread(service.start, kit.api_key_id, plain.api_key_id, hasty.api_key_id)
        await asyncio.gather(kit.call(service.url, calls), plain.call(service.url, calls))
        await hasty.call(service.url, min(calls, AT_ONCE_CALLS_MAX))
    finally:
        await asyncio.to_thread(service.process.stop)
        pipeline.close()
    return [kit, plain, hasty]


def section(played: Sequence[Callers], command: str) -> str:
    """The section of docs/client.md."""
    rows = [
        f"| {one.name} | {one.finished.total():,} | {one.seconds:.0f} s | {one.answers[429]:,} "
        f"| {one.refused_percent:,.2f} | {one.of_allowed_percent:.1f} % |"
        for one in played
    ]
    lines = [
        HEADING,
        f"{CALLERS} callers share a PRO key ({_PRO.requests_per_minute} a minute) and never heard of each other. They",
        "call the example service over HTTP, its gate over a real broker and worker; allowed are the bucket's capacity",
        f"and its rate times the time. Written by `{command}`, on {environment()['processors']} processors",
        "shared by all of it; in short it is `tests/e2e/test_callers.py`.",
        "",
        "| callers | calls | took | answers 429 | of them for 100 calls | of the allowed rate |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """The command; 1 where the kit's callers miss their goal."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.callers", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS, help="default %(default)s")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="its last section is written; docs/client.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluicegate-callers-") as name:
        folder = Path(name)
        (folder / "pipeline").mkdir()
        with Session(folder, 1.0) as session:
            played = asyncio.run(measure(folder / "pipeline", session, max(1_000, options.calls)))
    found = section(played, f"make callers CALLS={played[0].finished.total()}")
    before = options.document.read_text("utf-8").partition(HEADING)[0]
    options.document.write_text(before + found, "utf-8")
    sys.stdout.write(found)
    kit = played[0]
    sys.stdout.write("".join(f"{one.name}: {dict(one.answers)}, {dict(one.finished)}\n" for one in played))
    is_met = kit.refused_percent <= REFUSED_PERCENT_MAX and kit.of_allowed_percent >= OF_ALLOWED_PERCENT_MIN
    return 0 if is_met and set(kit.finished) == {200} else 1


if __name__ == "__main__":
    sys.exit(main())
