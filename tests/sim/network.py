"""What lies between a process and the broker: delays, lost requests, lost replies, late arrivals, cut connections."""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError

from .group import Group
from .log import SimBroker
from .loop import current

REQUEST_TIMEOUT_S: Final = 3.0
"""How long a client waits for a reply that does not come."""
_NOBODY: Final = contextvars.Context()
"""The context of what happens outside of all processes."""


class Network:
    """All connections of a world, and the broker at their other end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, broker: SimBroker, seen: Counter[str]) -> None:
        self.loop = loop
        self.broker = broker
        self.seen = seen
        self.groups: dict[str, Group] = {}
        self.is_over = False
        """The history is over: every request fails, so that what is left can end."""
        self.note: Callable[[str, str], None] = lambda who, what: None

    def group(self, name: str) -> Group:
        """The coordinator of a group."""
        if name not in self.groups:
            self.groups[name] = Group(name, self.loop, self.broker.partitions, partial(self.note, name))
        return self.groups[name]


class Connection:
    """One process's way to the broker, and what is wrong with it until when (loop time).

    All that happens to its requests is drawn from a stream of its own, so that one process does not disturb another.
    """

    def __init__(self, network: Network, draw: random.Random) -> None:
        self.network = network
        self.loop = network.loop
        self.broker = network.broker
        self.group = network.group
        self.draw = draw
        self.cut_until = 0.0
        self.replies_lost_until = 0.0
        self.slow_until = 0.0

    @property
    def is_over(self) -> bool:
        """The history is over."""
        return self.network.is_over

    def request(self, operation: Callable[[], Any], timeout_s: float = REQUEST_TIMEOUT_S) -> "asyncio.Future[Any]":
        """The result of ``operation``, which runs at the broker once the request has arrived, if it does.

        The future ends with KafkaError where the operation raised it, or where no reply came: then it may have taken
        effect, or may yet. ``operation`` may return a future, for a reply that the broker holds back.
        """
        return _Request(self, operation, timeout_s).answer


def connect() -> Connection:
    """The connection of the process that runs now."""
    connection: Connection = current().connection
    return connection


class _Request:
    """One request on its way: ``_arrive`` at the broker, ``_answered`` there, ``_deliver`` the reply."""

    __slots__ = ("_boot", "_link", "_network", "_operation", "_reply", "_reply_lost", "answer")

    def __init__(self, link: Connection, operation: Callable[[], Any], timeout_s: float) -> None:
        self._network = network = link.network
        self._link = link
        self._operation = operation
        self._reply: Any = None
        self._reply_lost = False
        loop = network.loop
        self.answer = loop.create_future()
        self._boot = network.broker.boots
        now, random_ = loop.time(), link.draw.random
        if network.is_over:
            self._fail_after(0.0, KafkaConnectionError)
            return
        delay_s = 0.0004 + 0.002 * random_()
        if now < link.slow_until:
            delay_s += 1.5 * random_() ** 3
        if now < link.cut_until:
            fate = random_()
            if fate < 0.1:
                self._give_up(timeout_s)
                delay_s += 4.0 * random_()
                network.seen["late arrivals"] += 1
            elif fate < 0.25:
                self._reply_lost = True
            else:
                network.seen["requests lost"] += 1
                self._give_up(timeout_s)
                return
        elif now < link.replies_lost_until and random_() < 0.6:
            self._reply_lost = True
        if self._reply_lost:
            network.seen["replies lost"] += 1
            self._give_up(timeout_s)
        loop.call_later(delay_s, self._arrive, context=_NOBODY)

    def _give_up(self, timeout_s: float) -> None:
        """No reply will come: a connection that is reset says so soon, a silent one after the client's patience."""
        random_ = self._link.draw.random
        is_reset = random_() < 0.7
        self._fail_after(
            0.01 + 0.2 * random_() if is_reset else timeout_s,
            KafkaConnectionError if is_reset else RequestTimedOutError,
        )

    def _fail_after(self, delay_s: float, error: type[KafkaError]) -> None:
        self._network.loop.call_later(delay_s, self._fail, error, context=_NOBODY)

    def _fail(self, error: type[KafkaError]) -> None:
        if not self.answer.done():
            self.answer.set_exception(error())

    def _arrive(self) -> None:
        broker = self._network.broker
        if broker.is_down or self._network.is_over:
            self._fail_after(0.001, KafkaConnectionError)
            return
        self._boot = broker.boots
        try:
            reply = self._operation()
        except KafkaError as error:
            reply = error
        if isinstance(reply, asyncio.Future):
            reply.add_done_callback(self._answered, context=_NOBODY)
        else:
            self._send(reply)

    def _answered(self, future: "asyncio.Future[Any]") -> None:
        if not future.cancelled():
            self._send(future.exception() or future.result())

    def _send(self, reply: Any) -> None:
        network, link = self._network, self._link
        now, random_ = network.loop.time(), link.draw.random
        if self._reply_lost:
            return
        delay_s = 0.0004 + 0.002 * random_()
        if now < link.slow_until:
            delay_s += 1.5 * random_() ** 3
        if now < link.cut_until or network.broker.boots != self._boot:
            network.seen["replies lost"] += 1
            self._give_up(REQUEST_TIMEOUT_S)
            return
        self._reply = reply
        network.loop.call_later(delay_s, self._deliver, context=_NOBODY)

    def _deliver(self) -> None:
        answer, reply = self.answer, self._reply
        if answer.done():
            return
        if isinstance(reply, Exception):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)
