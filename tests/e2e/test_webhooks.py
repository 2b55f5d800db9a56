"""The webhook dispatcher as a process, on a real broker, receivers that fail in every way, and kill -9 in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sluicegate_schemas.deliveries import webhook_id_of
from stack.kafka import Kafka
from tests.webhook_dispatcher import Dispatcher, page
from tests.webhook_receiver import OLD_SECRET, SECRET, Receiver, Reply, alert

URL_SECRET = "hooks/alerts"
pytestmark = [pytest.mark.broker, pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


@pytest.fixture
async def dispatcher(kafka: Kafka, fresh_prefix: str, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Dispatcher]:
    made = Dispatcher(kafka, fresh_prefix, tmp_path, {"pager": receiver})
    await made.prepare()
    try:
        yield made
    finally:
        made.process.kill()


@pytest.mark.contract("5.12", "5.14")
async def test_a_receiver_that_was_away_gets_each_alert_once_by_id_though_the_dispatcher_is_killed(
    dispatcher: Dispatcher, receiver: Receiver
) -> None:
    await dispatcher.start()
    ids = await dispatcher.send([alert(1), alert(1, state="cleared")])
    await dispatcher.until("the first alerts", lambda: receiver.accepted.keys() == ids)
    receiver.stop()
    ids |= await dispatcher.send(alert(number) for number in range(2, 30))
    await dispatcher.until_written(pending=28)
    dispatcher.process.kill()
    ids |= await dispatcher.send(alert(number) for number in range(30, 40))
    receiver.start()
    await dispatcher.start()
    await dispatcher.until("all alerts", lambda: receiver.accepted.keys() == ids)
    await dispatcher.until("nothing pends", lambda: dispatcher.metrics()["pending{pager}"] == 0)

    # What the workers say again, and a new start, send nothing again.
    await dispatcher.send([alert(1), alert(35)])
    await dispatcher.until("they are seen", lambda: dispatcher.metrics()["repeated_total"] == 2)
    dispatcher.process.stop()
    assert dispatcher.process.exit_code == 0, dispatcher.process.log_tail()
    before = receiver.requests
    await dispatcher.start()
    ids |= await dispatcher.send([alert(99)])
    await dispatcher.until("the last alert", lambda: receiver.accepted.keys() == ids)
    assert receiver.requests == before + 1
    assert set(receiver.accepted.values()) == {1}
    assert receiver.rejected == []
    assert receiver.payloads[webhook_id_of(alert(99))]["data"]["alert_id"] == alert(99).alert_id

    # Neither secrets nor the URL are anywhere to be read.
    said = (dispatcher.folder / "dispatcher.log").read_bytes() + b"".join(
        key + (value or b"") for key, value in await dispatcher.rows()
    )
    for secret in (SECRET, OLD_SECRET, SECRET.removeprefix("whsec_"), URL_SECRET):
        assert secret.encode() not in said


async def test_no_alert_is_missing_whatever_the_receiver_answers_and_whenever_the_dispatcher_is_killed(
    dispatcher: Dispatcher, receiver: Receiver
) -> None:
    chance = random.Random(7)
    replies = [
        *(Reply(), Reply(), Reply(200, body=b"ok")),
        *(Reply(500), Reply(503), Reply(429, {"Retry-After": "1"}), Reply(302, {"Location": "http://127.0.0.1/"})),
        *(Reply(200, body=b"x" * 3_000_000), Reply(after_s=3.0)),
    ]
    receiver.reply = lambda _number, _id: chance.choice(replies)
    dispatcher.options["pager"] = "retry_delays_s = [1]\ntimeout_s = 2"
    dispatcher.configure({"pager": receiver})
    ids: set[str] = set()
    for kill in range(5):
        await dispatcher.start()
        ids |= await dispatcher.send(alert(100 * kill + number) for number in range(10))
        await asyncio.sleep(chance.random() * 2)  # any moment will do to be killed at
        dispatcher.process.kill()
    await dispatcher.start()
    await dispatcher.until("all alerts", lambda: receiver.accepted.keys() >= ids)
    assert receiver.accepted.keys() == ids
    assert receiver.rejected == []
    await dispatcher.until("nothing pends", lambda: dispatcher.metrics()["pending{pager}"] == 0)


async def test_a_receiver_that_hangs_keeps_nobody_else_waiting(
    kafka: Kafka, fresh_prefix: str, tmp_path: Path, receiver: Receiver
) -> None:
    with Receiver(reply=lambda _number, _id: Reply(after_s=3_600)) as hanging:
        receivers = {"hanging": hanging, "pager": receiver}
        dispatcher = Dispatcher(kafka, fresh_prefix, tmp_path, receivers, hanging="timeout_s = 30")
        await dispatcher.prepare()
        try:
            await dispatcher.start()
            ids = await dispatcher.send(alert(number) for number in range(50))
            await dispatcher.until("all alerts at the other", lambda: receiver.accepted.keys() == ids)
            await dispatcher.until("none pends there", lambda: dispatcher.metrics()["pending{pager}"] == 0)
            assert hanging.requests == 4
            assert dispatcher.metrics()["pending{hanging}"] == 50
        finally:
            dispatcher.process.kill()


@pytest.mark.contract("5.14")
async def test_dead_letters_are_listed_and_delivered_once_they_are_replayed(
    dispatcher: Dispatcher, receiver: Receiver
) -> None:
    receiver.reply = lambda _number, _id: Reply(410)
    await dispatcher.start()
    ids = sorted(await dispatcher.send(alert(number) for number in range(3)))
    old = alert(9, at=datetime.now(UTC) - timedelta(days=3))
    [old_id] = await dispatcher.send([old])
    await dispatcher.until("they are given up", lambda: dispatcher.metrics()["dead_letters{pager}"] == 4)
    listed = await dispatcher.command("dead")
    assert sorted(line.split()[2] for line in listed.splitlines()) == [*ids, old_id]
    assert listed.count("gone 410") == 3
    assert listed.count("too_old") == 1

    receiver.reply = lambda _number, _id: Reply()
    assert await dispatcher.command("replay", "--id", ids[0]) == "1 dead letters are to be tried again.\n"
    await dispatcher.until("the one", lambda: receiver.accepted.keys() == {ids[0]})
    await dispatcher.until("it is no dead letter", lambda: dispatcher.metrics()["dead_letters{pager}"] == 3)
    await dispatcher.until_written(pending=0)
    dispatcher.process.kill()
    assert (
        await dispatcher.command("replay", "--all", "--endpoint", "nobody") == "0 dead letters are to be tried again.\n"
    )
    assert await dispatcher.command("replay", "--all") == "3 dead letters are to be tried again.\n"
    await dispatcher.start()
    await dispatcher.until("the others", lambda: receiver.accepted.keys() == {*ids, old_id})
    await dispatcher.until("nothing is left", lambda: dispatcher.metrics()["dead_letters{pager}"] == 0)
    dispatcher.process.stop()
    assert await dispatcher.command("dead") == ""
    await dispatcher.start()
    await dispatcher.send([alert(77)])
    await dispatcher.until("the next alert", lambda: webhook_id_of(alert(77)) in receiver.accepted)
    assert set(receiver.accepted.values()) == {1}


async def test_what_is_no_alert_is_counted_and_passed_over(dispatcher: Dispatcher, receiver: Receiver) -> None:
    await dispatcher.start()
    long = alert(1).model_dump_json().encode()[:-1] + b" " * 70_000 + b"}"
    [last] = await dispatcher.send([None, b"{}", b"\xff", long, alert(2)])
    await dispatcher.until("the alert behind them", lambda: receiver.accepted.keys() == {last})
    shown = dispatcher.metrics()
    assert (shown["alerts_total{malformed}"], shown["alerts_total{wanted}"]) == (4, 1)


async def test_an_older_dispatcher_stands_by_when_a_newer_one_has_claimed_the_work(
    dispatcher: Dispatcher, receiver: Receiver
) -> None:
    await dispatcher.start()
    old_port = dispatcher.port
    newer = dispatcher.another("newer")
    try:
        await asyncio.to_thread(newer.start)
        await dispatcher.until("the older stands by", lambda: page(old_port, "readyz") is None)
        assert dispatcher.process.running
        assert page(old_port, "livez") is not None
        ids = await dispatcher.send(alert(number) for number in range(20))
        await dispatcher.until("all alerts", lambda: receiver.accepted.keys() == ids)
        assert set(receiver.accepted.values()) == {1}
        dispatcher.process.stop()
        assert dispatcher.process.exit_code == 0
    finally:
        newer.kill()


async def test_while_the_broker_is_away_what_pends_is_delivered_on_and_not_again_afterwards(
    broker: Kafka, fresh_prefix: str, tmp_path: Path, receiver: Receiver
) -> None:
    dispatcher = Dispatcher(broker, fresh_prefix, tmp_path, {"pager": receiver})
    await dispatcher.prepare()
    try:
        receiver.stop()
        await dispatcher.start()
        ids = await dispatcher.send(alert(number) for number in range(5))
        await dispatcher.until_written(pending=5)
        await asyncio.to_thread(broker.kill)
        receiver.start()
        await dispatcher.until("they are delivered", lambda: receiver.accepted.keys() == ids)
        await dispatcher.until("it says so", lambda: page(dispatcher.port, "readyz") is None)
        await asyncio.to_thread(broker.start)
        await dispatcher.until("its rows are written", lambda: dispatcher.metrics()["rows_waiting"] == 0)
        await dispatcher.until("it is ready again", lambda: page(dispatcher.port, "readyz") is not None)
        ids |= await dispatcher.send([alert(6)])
        await dispatcher.until("the next alert", lambda: receiver.accepted.keys() == ids)
        await dispatcher.until_written(pending=0)
        dispatcher.process.kill()
        await dispatcher.start()
        ids |= await dispatcher.send([alert(7)])
        await dispatcher.until("the last alert", lambda: receiver.accepted.keys() == ids)
        assert {webhook_id: count for webhook_id, count in receiver.accepted.items() if count > 1} == {}
    finally:
        dispatcher.process.kill()
