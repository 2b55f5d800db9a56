"""The publisher in threads and in forked children."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.publisher import Publisher, ThreadedPublisher
from sluicegate.publisher.testing import MemoryTransport

from .test_publisher import event, settings, until


def soon(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.001)


def test_a_service_without_an_event_loop_publishes_from_any_thread() -> None:
    kafka = MemoryTransport(partitions=3)

    def work(worker: int) -> None:
        for number in range(500):
            assert publisher.publish(**event(f"org_{worker}", subject=f"s{number}"))

    with ThreadedPublisher(settings(), transport=kafka) as publisher:
        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for worker in range(4):
        found = [found.subject for found in kafka.counted() if found.org_id == f"org_{worker}"]
        assert found == [f"s{number}" for number in range(500)]
    assert publisher.stats().published == 2_000
    assert not [thread for thread in threading.enumerate() if thread.name == "sluicegate-publisher"]


async def test_other_threads_may_publish_into_an_event_loops_publisher() -> None:
    kafka = MemoryTransport()
    async with Publisher(settings(), transport=kafka) as publisher:
        await until(lambda: publisher.stats().connected)
        thread = threading.Thread(target=lambda: publisher.publish(**event()))
        thread.start()
        await until(lambda: publisher.stats().published == 1)
        thread.join()


def test_a_threaded_publish_wait_blocks_until_there_is_room() -> None:
    kafka = MemoryTransport()
    kafka.away = True
    with ThreadedPublisher(settings(buffer_events_max=1), transport=kafka) as publisher:
        assert publisher.publish(**event())
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.append(publisher.publish_wait(**event())))
        thread.start()
        assert not results
        kafka.away = False
        thread.join(10)
        assert results == [True]
    assert len(kafka.counted()) == 2


def test_closing_twice_or_without_a_start_is_harmless() -> None:
    publisher = ThreadedPublisher(settings(), transport=MemoryTransport())
    publisher.publish(**event())
    assert publisher.close().lost == {"unsent_at_close": 1}
    other = ThreadedPublisher(settings(), transport=MemoryTransport())
    other.start()
    assert other.close().lost == {}
    assert other.close().lost == {}
    with pytest.raises(RuntimeError, match="starts once"):
        other.start()


def in_child(work: Callable[[], Any]) -> str:
    """What ``work`` returns in a forked child, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = repr(work())
        except BaseException as error:
            answer = f"raised {error!r}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_a_forked_child_has_a_new_identity_and_nothing_of_its_parents_events() -> None:
    kafka = MemoryTransport(partitions=1)
    kafka.away = True
    publisher = ThreadedPublisher(settings(), transport=kafka)
    publisher.start()
    for _ in range(5):
        publisher.publish(**event())

    def child() -> tuple[bool, int, int, bool]:
        fresh = publisher.stats()
        kafka.away = False
        publisher.publish(**event(subject="child"))
        closed = publisher.close()
        subjects = [found.subject for found in kafka.counted()]
        new_identity = kafka.log[0].envelope.producer_id == closed.producer_id == fresh.producer_id != parent_id
        return new_identity, fresh.accepted, closed.published, subjects == ["child"]

    parent_id = publisher.stats().producer_id
    assert in_child(child) == "(True, 0, 1, True)"
    kafka.away = False
    assert publisher.close().published == 5
    assert {record.envelope.producer_id for record in kafka.log} == {parent_id}


def test_a_fork_while_another_thread_publishes_does_not_hang_the_child() -> None:
    kafka = MemoryTransport()
    publisher = ThreadedPublisher(settings(), transport=kafka)
    publisher.start()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            publisher.publish(**event())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert in_child(lambda: (publisher.publish(**event()), publisher.close().published)) == "(True, 1)"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        publisher.close()


def test_a_fork_leaves_the_spools_lock_to_the_parent(tmp_path: Any) -> None:
    kafka = MemoryTransport(partitions=1)
    spooling = settings(overflow="spool", spool_directory=tmp_path, spool_after_ms=10)
    publisher = ThreadedPublisher(spooling, transport=kafka)
    publisher.start()
    soon(lambda: publisher.stats().connected)
    kafka.away = True
    publisher.publish(**event())
    soon(lambda: publisher.stats().spooled == 1)
    (reading, writing), (hearing, saying) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(saying, b"x")
        os.read(reading, 1)
        os._exit(0)
    try:
        os.read(hearing, 1)  # until then the child is on its way out of the fork, and holds the lock too
        assert publisher.close(timeout_s=0).spooled == 1
        kafka.away = False
        with ThreadedPublisher(spooling, transport=kafka) as heir:
            soon(lambda: heir.stats().recovered == 1)
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)
        for end in (reading, writing, hearing, saying):
            os.close(end)
    assert len(kafka.counted()) == 1
