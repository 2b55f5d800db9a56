"""The engine's clients of Kafka: none is kept that did not start."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from sluicegate.brokers import Brokers
from streams.engine.broker import Broker


class Client:
    """A consumer or producer; the ``failing``-th of all starts fails."""

    starts = 0
    failing = 0

    def __init__(self) -> None:
        self.state = "new"

    async def start(self) -> None:
        Client.starts += 1
        if Client.starts == Client.failing:
            raise KafkaConnectionError
        self.state = "started"

    async def stop(self) -> None:
        self.state = "stopped"


class ClientsBroker(Broker):
    def __init__(self) -> None:
        super().__init__(Brokers(), 1_000_000)
        self.made: list[Client] = []

    def consumer(self, **_: Any) -> Any:
        self.made.append(Client())
        return self.made[-1]

    def _producer(self, *_: Any) -> Any:
        return self.consumer()

    def used(self) -> list[str]:
        clients: list[Any] = [self._asker, self._state_producer, self._output_producer, self._urgent_producer]
        return [client.state for client in clients]


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
async def test_what_did_not_start_is_made_anew_at_the_next_try(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    monkeypatch.setattr(Client, "starts", 0)
    monkeypatch.setattr(Client, "failing", failing)
    broker = ClientsBroker()
    with pytest.raises(KafkaConnectionError):
        await broker.start()
    await broker.start()
    assert broker.used() == ["started"] * 4
    await broker.stop()
    assert {client.state for client in broker.made} == {"stopped"}


async def test_a_renewal_that_fails_is_made_good_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "starts", 0)
    monkeypatch.setattr(Client, "failing", 6)
    broker = ClientsBroker()
    await broker.start()
    with pytest.raises(KafkaConnectionError):
        await broker.renew()
    await broker.renew()
    assert broker.used() == ["started"] * 4
    await broker.stop()
    assert {client.state for client in broker.made} == {"stopped"}


async def test_whoever_still_asks_when_the_worker_has_stopped_hears_that_it_is_not_connected() -> None:
    broker = ClientsBroker()
    await broker.start()
    await broker.stop()
    for asking in (
        broker.end("usage", 0),
        broker.bounds("usage", 0),
        broker.append("state", 0, []),
        broker.send("balances", b"k", b"v", 0),
        broker.send_together("balances", 0, []),
    ):
        with pytest.raises(KafkaConnectionError):
            await asking
