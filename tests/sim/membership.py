"""Twin of aiokafka's group coordination: one consumer's life in its group, as a chain of requests that may all fail."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from aiokafka.errors import IllegalGenerationError, KafkaError, RebalanceInProgressError, UnknownMemberIdError

from .group import REBALANCE_TIMEOUT_S, Tp
from .kafka_twin import RETRY_S
from .network import REQUEST_TIMEOUT_S, Connection

JOIN_TIMEOUT_S = REBALANCE_TIMEOUT_S + REQUEST_TIMEOUT_S


class Membership:
    """``run`` joins again and again: ``revoke`` is awaited before each attempt that follows a success, ``assign`` (with
    generation and partitions) after. ``assigned`` changes before that, as soon as the group has answered."""

    def __init__(
        self,
        connection: Connection,
        group: str,
        *,
        name: str,
        topics: tuple[str, ...],
        session_s: float,
        revoke: Callable[[], Awaitable[None]],
        assigned: Callable[[int, list[Tp]], None],
        assign: Callable[[int], Awaitable[None]],
    ) -> None:
        self.heartbeat_sent_at = float("-inf")
        self._connection = connection
        self._group = connection.group(group)
        self._name = name
        self._topics = topics
        self._session_s = session_s
        self._revoke = revoke
        self._assigned = assigned
        self._assign = assign
        self._member_id = ""
        self._generation = -1
        self._rejoin = asyncio.Event()
        self._heart: asyncio.Task[None] | None = None

    def rejoin(self) -> None:
        """Asks the group for a new assignment."""
        self._rejoin.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        revoked = False
        while True:
            if not revoked:
                await self._revoke()
                revoked = True
            await self._stop_heart()
            try:
                has_joined = await self._join()
            except UnknownMemberIdError:
                self._reset()
                continue
            except KafkaError:
                has_joined = False
            if not has_joined:
                self._rejoin.set()
                await asyncio.sleep(RETRY_S)
                continue
            revoked = False
            await self._assign(self._generation)
            self._heart = asyncio.ensure_future(self._beat())
            await self._rejoin.wait()

    async def _join(self) -> bool:
        group = self._group
        join = partial(group.join, self._member_id, self._name, self._topics, self._session_s)
        self._member_id, self._generation = await self._connection.request(join, JOIN_TIMEOUT_S)
        self._rejoin.clear()
        try:
            sync = partial(group.sync, self._member_id, self._generation)
            partitions = await self._connection.request(sync, JOIN_TIMEOUT_S)
        except (UnknownMemberIdError, IllegalGenerationError):
            self._reset()
            return False
        self.heartbeat_sent_at = self._connection.loop.time()
        self._assigned(self._generation, partitions)
        return True

    def _reset(self) -> None:
        self._member_id, self._generation = "", -1
        self._rejoin.set()

    async def _beat(self) -> None:
        loop = self._connection.loop
        interval_s = min(1.0, self._session_s / 5)
        wait_s = interval_s
        while True:
            await asyncio.sleep(wait_s)
            sent_at = loop.time()
            wait_s = RETRY_S
            try:
                await self._connection.request(partial(self._group.heartbeat, self._member_id, self._generation))
            except RebalanceInProgressError:
                self._rejoin.set()
            except (UnknownMemberIdError, IllegalGenerationError):
                self._reset()
                self.heartbeat_sent_at = float("-inf")
                return
            except KafkaError:
                continue
            self.heartbeat_sent_at = sent_at
            wait_s = max(0.0, interval_s - (loop.time() - sent_at))

    async def _stop_heart(self) -> None:
        heart, self._heart = self._heart, None
        if heart is not None and not heart.done():
            heart.cancel()
            await asyncio.wait([heart])

    async def commit(self, offsets: dict[Any, int]) -> bool:
        """False where the group has moved on: then it is joined anew. Else retries for ever."""
        commit = partial(self._group.commit, self._member_id, self._generation, offsets)
        while True:
            try:
                await self._connection.request(commit)
            except RebalanceInProgressError:
                self._rejoin.set()
                return False
            except (UnknownMemberIdError, IllegalGenerationError):
                self._reset()
                return False
            except KafkaError:
                await asyncio.sleep(RETRY_S)
            else:
                return True

    async def committed(self) -> dict[Tp, int]:
        """The group's positions. Retries for ever."""
        while True:
            try:
                return dict(await self._connection.request(lambda: dict(self._group.committed)))
            except KafkaError:
                await asyncio.sleep(RETRY_S)

    async def leave(self) -> None:
        """Tells the group; if that fails, the session's end does."""
        await self._stop_heart()
        with suppress(KafkaError):
            await self._connection.request(partial(self._group.leave, self._member_id))
