"""From the call of ``publish`` to the gate that obeys: one node publishes a steady load, and probe keys beyond their
burst; one worker decides; a gate in a process of its own follows."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from tests.bench import load, obeying, system
from tests.bench.session import ROOT, Session

EVENTS_PER_S: Final = 20_000
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


def latencies_ms(bootstrap: str, per_s: float, seconds: float = _SECONDS) -> tuple[float, list[float]]:
    """The rate that was reached, and each probe's latency, rising."""
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
            worker.check()
            obeyed = [obeying.Obeyed(*one) for one in json.loads(gate.communicate(timeout=30)[0])]
        finally:
            for process in (gate, *([loading] if loading else [])):
                process.kill()
                process.wait()
    first: dict[str, int] = {}
    for one in obeyed:
        first.setdefault(one.api_key_id, one.at_ns)
    found = [(first[name] - at_ns) / 1e6 for number, at_ns in loaded.probed if (name := load.probe(number)) in first]
    assert len(found) >= len(loaded.probed) * (1 - _MISSING_MAX), f"{len(found)} of {len(loaded.probed)} were obeyed"
    return loaded.eps, sorted(found)


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    eps, found = latencies_ms(session.bootstrap, EVENTS_PER_S)
    figures = {
        "decision_latency_p50_ms": found[len(found) // 2],
        "decision_latency_p99_ms": found[len(found) * 99 // 100],
        "decision_load_eps": eps,
    }
    return {name: figure for name, figure in figures.items() if name in wanted}


def main() -> None:
    """``python -m tests.bench.decisions BOOTSTRAP EVENTS_PER_S``: one round's percentiles."""
    eps, found = latencies_ms(sys.argv[1], float(sys.argv[2]))
    points = {percent: round(found[len(found) * percent // 100], 1) for percent in (0, 10, 50, 90, 99)}
    sys.stdout.write(f"{eps:,.0f} events/s, {len(found)} probes, percentiles in ms {points}, worst {found[-1]:.1f}\n")


if __name__ == "__main__":
    main()
