"""Events a second through one worker, and through peers that only keep two counters or only decode."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable

import msgspec
from aiokafka import AIOKafkaProducer

from tests.bench import system, worker, workload
from tests.bench.session import ROOT, Session


async def _preload(
    bootstrap: str, topic: str, contents: Iterable[tuple[int, bytes]], key: Callable[[bytes], bytes] | None
) -> None:
    """Writes the whole workload into ``topic`` before anybody reads."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    try:
        for partition, value in contents:
            await producer.send(topic, value, key=None if key is None else key(value), partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


def _organization(value: bytes) -> bytes:
    organization: str = msgspec.json.decode(value)["org_id"]
    return organization.encode()


def _filled(
    session: Session,
    name: str,
    contents: Iterable[tuple[int, bytes]],
    key: Callable[[bytes], bytes] | None = None,
) -> str:
    """A fresh topic that holds ``contents``."""
    topic = f"{name}-{secrets.token_hex(4)}"
    asyncio.run(system.create_topic(session.bootstrap, topic))
    asyncio.run(_preload(session.bootstrap, topic, contents, key))
    return topic


def _rate(line: str) -> float:
    result = json.loads(line)
    return float(result["events"] / result["seconds"])


def _worker(session: Session) -> dict[str, float]:
    run = worker.run_envelopes(session.bootstrap, session.count(600_000))
    return {"worker_envelopes_eps": run.eps, "worker_envelopes_cpu_us": run.cpu_us}


def _worker_records(session: Session) -> dict[str, float]:
    run = worker.run_records(session.bootstrap, session.count(200_000))
    return {"worker_records_eps": run.eps, "worker_records_cpu_us": run.cpu_us}


def _two_workers(session: Session) -> dict[str, float]:
    run = worker.run_envelopes(session.bootstrap, session.count(600_000), workers=2)
    return {"worker_2_eps": run.eps, "worker_2_cpu_us": run.cpu_us}


def _bare(session: Session, kind: str) -> float:
    count = session.count(600_000 if kind == "envelopes" else 200_000)
    contents = workload.envelopes(count) if kind == "envelopes" else workload.records(count)
    topic = _filled(session, "bare", contents)
    command = [sys.executable, "-m", "tests.bench.bare_consumer", session.bootstrap, topic, kind]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    return _rate(done.stdout.splitlines()[-1])


def _confluent(session: Session) -> float:
    topic = _filled(session, "confluent", workload.envelopes(session.count(600_000)))
    return _rate(session.peer("confluent_bare", session.bootstrap, topic))


def _quix(session: Session) -> float:
    count = session.count(400_000)  # long enough for several of its checkpoints
    topic = _filled(session, "quix", workload.records(count), _organization)  # its state is kept by key
    with tempfile.TemporaryDirectory() as folder:
        return _rate(session.peer("quix_counts", session.bootstrap, topic, str(count), folder))


def _plain_faust(session: Session) -> float:
    count = session.count(15_000)
    topic = _filled(session, "plain", workload.records(count))
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "BENCH_TOPIC": topic,
            "BENCH_EVENTS": str(count),
            "BENCH_GROUP": topic,
            "BENCH_BOOTSTRAP": session.bootstrap,
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


_CONTENDERS: tuple[tuple[Collection[str], Callable[[Session], dict[str, float]]], ...] = (
    (("worker_envelopes_eps", "worker_envelopes_cpu_us"), _worker),
    (("worker_records_eps", "worker_records_cpu_us"), _worker_records),
    (("worker_2_eps", "worker_2_cpu_us"), _two_workers),
    (("faust_plain_eps",), lambda session: {"faust_plain_eps": _plain_faust(session)}),
    (("quix_eps",), lambda session: {"quix_eps": _quix(session)}),
    (("consumer_bare_eps",), lambda session: {"consumer_bare_eps": _bare(session, "envelopes")}),
    (("consumer_bare_records_eps",), lambda session: {"consumer_bare_records_eps": _bare(session, "records")}),
    (("confluent_bare_eps",), lambda session: {"confluent_bare_eps": _confluent(session)}),
)


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows."""
    figures: dict[str, float] = {}
    for names, run in _CONTENDERS:
        if any(name in wanted for name in names):
            figures |= run(session)
    return {name: figure for name, figure in figures.items() if name in wanted}
