"""Long outages by command: ``python -m tests.faults.outages clickhouse --for 600``, ``… broker --for 60``.

Everything of its own, on this machine: broker, ClickHouse engine, workers, sink, nodes. Shows progress, writes a report
as JSON, says what was found, and ends with status 0 where all is as it should be, else with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from stack.report import environment
from tests.faults.findings import Report, Say
from tests.faults.outage_broker import broker_away
from tests.faults.outage_clickhouse import clickhouse_away
from tests.pipeline import Pipeline

FOR_S_DEFAULT: Final = {"clickhouse": 600.0, "broker": 60.0}


async def measure(part: str, for_s: float, say: Say) -> Report:
    """The outage of ``part`` for ``for_s`` seconds, on a stack of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sluicegate-outage-") as name:
        folder = Path(name)
        kafka, engine = Kafka(folder / "kafka"), ClickHouse(folder / "clickhouse")
        pipeline = Pipeline(kafka, engine, "outage", folder)
        try:
            kafka.start()
            engine.start()
            if part == "clickhouse":
                return await clickhouse_away(pipeline, for_s, say)
            return await broker_away(pipeline, folder, for_s, say)
        finally:
            pipeline.close()
            engine.kill()
            kafka.kill()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.outages", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=sorted(FOR_S_DEFAULT), help="what goes away")
    parser.add_argument("--for", dest="for_s", type=float, help="seconds; default 600 for clickhouse, 60 for broker")
    parser.add_argument("--report", type=Path, help="where the figures go as JSON; default bench/work/outage-PART.json")
    options = parser.parse_args()
    for_s = options.for_s or FOR_S_DEFAULT[options.part]
    report = asyncio.run(measure(options.part, for_s, lambda line: print(line, flush=True)))
    path = options.report or Path(f"bench/work/outage-{options.part}.json")
    findings = {"part": options.part, "ok": not report.failures, "sentences": report.sentences}
    figures = {**findings, "failures": report.failures, "figures": report.figures, "environment": environment()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print("\n".join(report.sentences))
    for failure in report.failures:
        print(f"NOT AS IT SHOULD BE: {failure}", file=sys.stderr)
    print(f"The figures are in {path}.")
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
