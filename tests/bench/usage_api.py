"""The usage API beside one worker under load: how long ``GET /v1/organizations/usage`` takes, and how long an event
takes to be in its answer."""

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from sluicegate import Publisher, PublisherSettings
from sluicegate.clock import epoch_ms
from stack.ports import LOOPBACK, free_port
from tests.bench import asking, load, system
from tests.bench.decisions import python
from tests.bench.session import ROOT, Session

EVENTS_PER_S: Final = 20_000.0
REQUESTS_PER_S: Final = 500.0
_SECONDS: Final = 15.0
_KEYS: Final = 100
_PROBES: Final = 100
_READY_LIMIT_S: Final = 60.0
_SEEN_LIMIT_S: Final = 10.0
_WATCHED: Final = _KEYS
"""The key whose balance is looked at; nobody else uses it."""


def commands() -> Iterable[system.Command]:
    """The workload's accounts, and those that ask."""
    yield from system.workload_commands()
    for number in range(_KEYS + 1):
        organization = f"org_asking_{number}"
        yield system.organization_put(organization, system.WIDE)
        sha256 = hashlib.sha256(asking.secret(number).encode()).hexdigest()
        yield system.key_put(f"key_asking_{number}", organization, sha256)


async def _probe(bootstrap: str, prefix: str, address: str) -> list[float]:
    """From the call of ``publish`` to the answer that counts the event, in ms, each at a moment of its own."""
    publisher = Publisher(PublisherSettings(bootstrap_servers=bootstrap, node="bench-probe", topic_prefix=prefix))
    await publisher.start()
    connection = await asking.connect(address)
    draw, found = random.Random(7), list[float]()
    fields = load.fields_of(f"org_asking_{_WATCHED}", f"key_asking_{_WATCHED}", "search.web", None)
    for number in range(1, _PROBES + 1):
        await asyncio.sleep(draw.random() * 0.3)
        began = time.monotonic()
        load.publish(publisher, fields, epoch_ms())
        while json.loads(await connection.usage(_WATCHED))["credits"]["used"] < 10 * number:
            assert time.monotonic() < began + _SEEN_LIMIT_S, "the event is not in the answer"
            await asyncio.sleep(0.005)
        found.append((time.monotonic() - began) * 1000)
    connection.close()
    await publisher.close(10.0)
    return found


def _serve(bootstrap: str, prefix: str, folder: Path, address: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "SLUICEGATE_BOOTSTRAP_SERVERS": bootstrap,
        "SLUICEGATE_TOPIC_PREFIX": prefix,
        "SLUICEGATE_API_LISTEN": address,
        "SLUICEGATE_DATA_DIR": str(folder / "api"),
        "SLUICEGATE_NODE": "usage-api",
    }
    with (folder / "api.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "api"], cwd=ROOT, env=environment, stdout=log, stderr=log)


def _cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until_ready(address: str) -> None:
    deadline = time.monotonic() + _READY_LIMIT_S
    while True:
        try:
            if httpx.get(f"http://{address}/health", timeout=2.0, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("the usage API did not get ready")
        time.sleep(0.1)


class Run(NamedTuple):
    """Latencies of the requests and lags of the balance in ms, rising; what a request cost of the API's processor time,
    all that it did meanwhile included; events a second that were published."""

    latencies_ms: list[float]
    lags_ms: list[float]
    cpu_us: float
    eps: float


def run(bootstrap: str, events_per_s: float, requests_per_s: float, seconds: float = _SECONDS) -> Run:
    """One round."""
    prefix, address = system.fresh_prefix(), f"{LOOPBACK}:{free_port()}"
    asyncio.run(system.prepare(bootstrap, prefix, commands=commands()))
    asyncio.run(system.publish_catalogue(bootstrap, prefix))
    with tempfile.TemporaryDirectory() as name, system.Worker(bootstrap, prefix, Path(name)) as worker:
        asyncio.run(system.until_shared([worker]))
        api = _serve(bootstrap, prefix, Path(name), address)
        loading = None
        asker = None
        try:
            _until_ready(address)
            if events_per_s:
                loading = python("load", bootstrap, prefix, events_per_s, 2 * seconds + 30, 0)
            began_cpu_s = _cpu_s(api.pid)
            asker = python("asking", address, _KEYS, requests_per_s, seconds)
            latencies = json.loads(asker.communicate(timeout=10 * seconds)[0])
            cpu_us = (_cpu_s(api.pid) - began_cpu_s) / len(latencies) * 1e6
            lags = asyncio.run(_probe(bootstrap, prefix, address))
            eps = json.loads(loading.communicate(timeout=4 * seconds + 120)[0])[0] if loading else 0.0
            worker.check()
        finally:
            for process in (api, loading, asker):
                if process is not None:
                    process.kill()
                    process.wait()
    return Run(sorted(latencies), sorted(lags), cpu_us, eps)


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    latencies, lags, cpu_us, eps = run(session.bootstrap, EVENTS_PER_S, REQUESTS_PER_S)
    figures = {
        "usage_api_p50_ms": latencies[len(latencies) // 2],
        "usage_api_p99_ms": latencies[len(latencies) * 99 // 100],
        "usage_api_cpu_us": cpu_us,
        "balance_lag_p50_ms": lags[len(lags) // 2],
        "balance_lag_p99_ms": lags[len(lags) * 99 // 100],
        "usage_api_load_eps": eps,
    }
    return {name: figure for name, figure in figures.items() if name in wanted}


def main() -> None:
    """``python -m tests.bench.usage_api BOOTSTRAP EVENTS_PER_S REQUESTS_PER_S SECONDS``: one round's percentiles."""
    bootstrap, *numbers = sys.argv[1:]
    latencies, lags, cpu_us, eps = run(bootstrap, *map(float, numbers))
    for name, found in (("requests", latencies), ("balances", lags)):
        points = {percent: round(found[len(found) * percent // 100], 1) for percent in (0, 10, 50, 90, 99)}
        sys.stdout.write(f"{name}: {len(found)}, percentiles in ms {points}, worst {found[-1]:.1f}\n")
    sys.stdout.write(f"{cpu_us:.0f} µs of processor time a request, beside {eps:,.0f} events/s\n")


if __name__ == "__main__":
    main()
