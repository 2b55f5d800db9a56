"""``make bench``: one worker with the full logic, beside a plain Faust agent and a bare consumer, in the same run.

The rounds alternate, so a slow minute of the machine touches all contenders; medians are compared, as ratios. Rows go
to ``bench/latest.json``.
"""

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from stack.kafka import Kafka
from tests.bench import worker, workload

ROOT = Path(__file__).parents[2]
LATEST = ROOT / "bench/latest.json"
PEER = "faust_plain_eps"


async def preload(bootstrap: str, topic: str, contents: Iterable[tuple[int, bytes]]) -> None:
    """Writes the whole workload into ``topic`` before anybody reads."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    try:
        for partition, value in contents:
            await producer.send(topic, value, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


def run_bare(bootstrap: str, count: int) -> float:
    """Events/s of a consumer that only decodes envelopes."""
    topic = f"bare-{secrets.token_hex(4)}"
    asyncio.run(worker.create_topic(bootstrap, topic))
    asyncio.run(preload(bootstrap, topic, workload.envelopes(count)))
    command = [sys.executable, "-m", "tests.bench.bare_consumer", bootstrap, topic]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120).stdout
    return _rate(output.splitlines()[-1])


def run_plain_faust(bootstrap: str, count: int) -> float:
    """Events/s of the plain Faust agent, one event a record."""
    topic = f"plain-{secrets.token_hex(4)}"
    asyncio.run(worker.create_topic(bootstrap, topic))
    asyncio.run(preload(bootstrap, topic, workload.records(count)))
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "BENCH_TOPIC": topic,
            "BENCH_EVENTS": str(count),
            "BENCH_GROUP": topic,
            "BENCH_BOOTSTRAP": bootstrap,
            "BENCH_DATA": folder,
        }
        command = [sys.executable, "-m", "faust", "-A", "tests.bench.plain_faust", "worker", "--without-web"]
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                if '{"events"' in line:
                    return _rate(line[line.index('{"events"') :].split("}")[0] + "}")
            raise RuntimeError("the plain Faust worker ended before it had read the workload")
        finally:
            child.kill()
            child.wait()


def _rate(line: str) -> float:
    result = json.loads(line)
    return float(result["events"] / result["seconds"])


def main() -> int:
    """Runs all contenders ``--rounds`` times and writes the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="more or less events than usual")
    options = parser.parse_args()
    console = Console()
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        broker = Kafka(Path(folder) / "kafka")
        contenders: list[tuple[str, Callable[[str, int], float], int]] = [
            ("worker_envelopes_eps", worker.run_envelopes, 600_000),
            ("worker_records_eps", worker.run_records, 200_000),
            ("faust_plain_eps", run_plain_faust, 15_000),
            ("consumer_bare_eps", run_bare, 600_000),
        ]
        try:
            broker.start()
            for round_number in range(1, options.rounds + 1):
                for name, run, count in contenders:
                    figure = run(broker.bootstrap, int(count * options.scale))
                    figures.setdefault(name, []).append(figure)
                    console.print(f"round {round_number} of {options.rounds}: {name} {figure:,.0f} events/s")
        finally:
            broker.stop()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    rows = [
        {
            "id": name,
            "value": round(medians[name]),
            "unit": "events/s",
            "peer": PEER,
            "ratio": round(medians[name] / medians[PEER], 2),
            "spread": [round(min(values)), round(max(values))],
        }
        for name, values in figures.items()
    ]
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    table = Table("figure", "median", "min – max", f"ratio to {PEER}", title="events a second, one process")
    for row, values in zip(rows, figures.values(), strict=True):
        table.add_row(
            str(row["id"]), f"{row['value']:,}", f"{min(values):,.0f} – {max(values):,.0f}", f"{row['ratio']}"
        )
    console.print(table)
    console.print(f"written to {LATEST.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
