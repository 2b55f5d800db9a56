"""What lies between a process and the broker: delays, lost requests, lost replies, late arrivals, cut connections."""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError, UnknownError

from .group import Group
from .log import SimBroker
from .loop import Process, current

REQUEST_TIMEOUT_S: Final = 3.0
"""How long a client waits for a reply that does not come."""
_DELAY_S: Final = 0.0004
_DELAY_S_MORE: Final = 0.002
_SLOW_S_MAX: Final = 2.0
_LATE_S_MAX: Final = 5.0
_UNKNOWN_ERROR: Final = 0.15
_NOBODY: Final = contextvars.Context()
"""The context of what happens outside of all processes."""


class Network:
    """All connections of a world, and the broker at their other end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, broker: SimBroker, seen: Counter[str]) -> None:
        self.loop = loop
        self.broker = broker
        self.seen = seen
        self.groups: dict[str, Group] = {}
        self.before_claim: list[Callable[[], object]] = []
        """What happens, once, when any process is about to send a claim to the state topic."""
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

    def __init__(self, network: Network, process: Process, draw: random.Random) -> None:
        self.network = network
        self.process = process
        self.loop = network.loop
        self.broker = network.broker
        self.group = network.group
        self.draw = draw
        self.cut_until = 0.0
        self.replies_lost_until = 0.0
        self.slow_until = 0.0
        self.before_append: list[Callable[[], object]] = []
        """What happens, once, when the process is about to send to the state topic; see ``strikes.Moment``."""
        self.after_append: list[Callable[[], object]] = []

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

    def claiming(self) -> None:
        """The process is about to send a claim: what was to happen just then happens."""
        strikes, self.network.before_claim = self.network.before_claim, []
        for strike in strikes:
            _NOBODY.copy().run(strike)

    def append(self, operation: Callable[[], Any]) -> "asyncio.Future[Any]":
        """``request`` for an append to the state topic: the moments of ``strikes.Moment`` are here."""
        strikes, self.before_append = self.before_append, []
        for strike in strikes:
            _NOBODY.copy().run(strike)
        return self.request(partial(self._append, operation))

    def _append(self, operation: Callable[[], Any]) -> Any:
        appended = operation()
        strikes, self.after_append = self.after_append, []
        for strike in strikes:
            strike()
        if self.loop.time() < self.replies_lost_until and self.draw.random() < _UNKNOWN_ERROR:
            self.network.seen["appends that look failed"] += 1
            raise UnknownError
        return appended


def connect() -> Connection:
    """The connection of the process that runs now."""
    connection: Connection = current().connection
    return connection


class _Request:
    """One request on its way: ``_depart``, ``_arrive`` at the broker, ``_answered`` there, ``_deliver`` the reply."""

    __slots__ = ("_boot", "_deadline", "_is_late", "_link", "_network", "_operation", "_reply", "_reply_lost", "answer")

    def __init__(self, link: Connection, operation: Callable[[], Any], timeout_s: float) -> None:
        self._link = link
        self._network = link.network
        self._operation = operation
        self._reply: Any = None
        self._reply_lost = False
        self._is_late = False
        self._boot = 0
        self._deadline = link.loop.time() + timeout_s
        self.answer = link.loop.create_future()
        if not link.process.alive:
            return  # killed just before it was sent
        if link.process.paused:
            link.loop.call_soon(self._depart)  # stopped just before it was sent
        else:
            self._depart()

    def _depart(self) -> None:
        link, network = self._link, self._network
        now, random_ = link.loop.time(), link.draw.random
        if network.is_over:
            self._fail_at(now, KafkaConnectionError)
            return
        delay_s = _DELAY_S + _DELAY_S_MORE * random_()
        if now < link.slow_until:
            delay_s += _SLOW_S_MAX * random_() ** 3
        if now < link.cut_until:
            fate = random_()
            if fate < 0.1:
                self._give_up()
                delay_s += _LATE_S_MAX * random_()
                network.seen["late arrivals"] += 1
            elif fate < 0.25:
                self._lose_reply()
            else:
                network.seen["requests lost"] += 1
                self._give_up()
                return
        elif now < link.replies_lost_until and random_() < 0.6:
            self._lose_reply()
        if now + delay_s > self._deadline:
            self._fail_at(self._deadline, RequestTimedOutError)
        link.loop.call_later(delay_s, self._arrive, context=_NOBODY)

    def _lose_reply(self) -> None:
        self._reply_lost = True
        self._network.seen["replies lost"] += 1
        self._give_up()

    def _give_up(self) -> None:
        """No reply will come: a connection that is reset says so soon, a silent one after the client's patience."""
        random_ = self._link.draw.random
        if random_() < 0.7:
            self._fail_at(self._link.loop.time() + 0.01 + 0.2 * random_(), KafkaConnectionError)
        else:
            self._fail_at(self._deadline, RequestTimedOutError)

    def _fail_at(self, at_s: float, error: type[KafkaError]) -> None:
        self._link.loop.call_at(at_s, self._fail, error, context=_NOBODY)

    def _fail(self, error: type[KafkaError]) -> None:
        if not self.answer.done():
            self.answer.set_exception(error())

    def _arrive(self) -> None:
        link, network = self._link, self._network
        broker, loop = network.broker, link.loop
        if not link.process.alive and not self._is_late:  # of what a dead process had sent some is lost, some late
            fate = link.draw.random()
            if fate < 0.3:
                network.seen["requests lost"] += 1
                return
            if fate < 0.6:
                network.seen["late arrivals"] += 1
                self._is_late = True
                loop.call_later(_LATE_S_MAX * link.draw.random(), self._arrive, context=_NOBODY)
                return
        if broker.is_down or network.is_over:
            self._fail_at(loop.time() + 0.001, KafkaConnectionError)
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
        if self._reply_lost or not link.process.alive:
            return
        now, random_ = link.loop.time(), link.draw.random
        if now < link.cut_until or network.broker.boots != self._boot:
            self._lose_reply()
            return
        delay_s = _DELAY_S + _DELAY_S_MORE * random_()
        if now < link.slow_until:
            delay_s += _SLOW_S_MAX * random_() ** 3
        if now + delay_s > self._deadline:
            self._fail_at(max(now, self._deadline), RequestTimedOutError)
            return
        self._reply = reply
        link.loop.call_later(delay_s, self._deliver, context=_NOBODY)

    def _deliver(self) -> None:
        answer, reply = self.answer, self._reply
        if answer.done():
            return
        if isinstance(reply, Exception):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)
