"""From the call of ``publish`` to the gate that obeys: one node publishes a steady load, and probe keys beyond their
burst; one worker decides; a gate in a process of its own follows."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Final, NamedTuple

from sluicegate_schemas import topics
from tests.bench import load, obeying, system
from tests.bench.session import ROOT, Session
from tests.bench.worker import until_durable

LOADS: Final = {"": 20_000, "100k_": 100_000}
"""Events a second that are offered, by what the rows' names have of it."""
_SECONDS: Final = 15.0
_PROBES_PER_S: Final = 50.0
_MISSING_MAX: Final = 0.01
"""So many of the probes may be unseen: the last ones when the gate stops."""


def commands(probes: int) -> Iterable[system.Command]:
    """The workload's accounts, and those of the probes."""
    yield from system.workload_commands()
    for number in range(probes):
        name = load.probe(number)
        yield system.organization_put(f"org_of_{name}", load.PROBE_RATES)
        yield system.key_put(name, f"org_of_{name}", obeying.sha256_of(name))


def python(module: str, *arguments: object) -> subprocess.Popen[str]:
    """``python -m tests.bench.MODULE``, spoken to through pipes."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Latency(NamedTuple):
    """From ``publish`` to the log, and from there to the gate that obeys."""

    to_log_ms: float
    to_gate_ms: float

    @property
    def whole_ms(self) -> float:
        """Of both."""
        return self.to_log_ms + self.to_gate_ms


def latencies(bootstrap: str, per_s: float, seconds: float = _SECONDS) -> tuple[float, list[Latency]]:
    """The rate that was reached, and each probe's latency."""
    prefix, probes = system.fresh_prefix(), load.probe_count(seconds, _PROBES_PER_S)
    asyncio.run(system.prepare(bootstrap, prefix, commands=commands(probes)))
    asyncio.run(system.publish_catalogue(bootstrap, prefix))
    with tempfile.TemporaryDirectory() as folder, system.Worker(bootstrap, prefix, Path(folder)) as worker:
        asyncio.run(system.until_shared([worker]))
        gate = python("obeying", bootstrap, prefix)
        loading = None
        try:
            assert gate.stdout is not None
            assert gate.stdout.readline() == "ready\n"
            loading = python("load", bootstrap, prefix, per_s, seconds, _PROBES_PER_S)
            loaded = load.Loaded(*json.loads(loading.communicate(timeout=seconds + 90)[0]))
            ends = asyncio.run(system.ends(bootstrap, prefix + topics.USAGE.name))
            asyncio.run(until_durable(bootstrap, prefix, ends, [worker]))  # so that late decisions are waited for
            obeyed = [obeying.Obeyed(*one) for one in json.loads(gate.communicate(timeout=30)[0])]
        finally:
            for process in (gate, *([loading] if loading else [])):
                process.kill()
                process.wait()
    first: dict[str, obeying.Obeyed] = {}
    for one in obeyed:
        first.setdefault(one.api_key_id, one)
    found = [
        Latency(said.caused_ms - at_ns / 1e6, said.at_ns / 1e6 - said.caused_ms)
        for number, at_ns in loaded.probed
        if (said := first.get(load.probe(number))) is not None
    ]
    assert len(found) >= len(loaded.probed) * (1 - _MISSING_MAX), f"{len(found)} of {len(loaded.probed)} were obeyed"
    return loaded.eps, found


def _percentile(values: Iterable[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) * percent // 100]


def measure(session: Session, wanted: Set[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    figures: dict[str, float] = {}
    for load_name, per_s in LOADS.items():
        rows = {f"decision_latency_{load_name}p50_ms", f"decision_latency_{load_name}p99_ms"}
        reached = f"decision_load_{load_name}eps"
        if wanted & (rows | {reached}):
            eps, found = latencies(session.bootstrap, per_s)
            for percent in (50, 99):
                whole_ms = _percentile((one.whole_ms for one in found), percent)
                figures[f"decision_latency_{load_name}p{percent}_ms"] = whole_ms
            figures[reached] = eps
    return {name: figure for name, figure in figures.items() if name in wanted}


def main() -> None:
    """``python -m tests.bench.decisions BOOTSTRAP EVENTS_PER_S``: one round, and where its time went."""
    eps, found = latencies(sys.argv[1], float(sys.argv[2]))
    sys.stdout.write(f"{eps:,.0f} events/s, {len(found)} decisions; ms at 10, 50, 90, 99 of 100\n")
    for name in ("to_log_ms", "to_gate_ms", "whole_ms"):
        points = [_percentile((getattr(one, name) for one in found), percent) for percent in (10, 50, 90, 99)]
        sys.stdout.write(f"{name:12}" + "".join(f"{point:9.1f}" for point in points) + "\n")


if __name__ == "__main__":
    main()
