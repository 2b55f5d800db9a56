"""ClickHouse, asked from the event loop: a few threads, a bounded queue and a time-out.

What it holds is history: while it is away the routes that need it answer 503, at once after the first (``breaker``),
and the others go on.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from clickhouse.connection import ClickHouse

from .breaker import Breaker
from .problems import away

log = logging.getLogger(__name__)

THREADS: Final = 4
QUEUE_MAX: Final = 32
"""Questions that wait or run; the next is answered 503."""
ANSWER_LIMIT_S: Final = 10.0
_AWAY: Final = "The past cannot be asked"
_OF_THE_SERVER: Final = {None, 159, 202, 241}
"""No answer at all; TIMEOUT_EXCEEDED, TOO_MANY_SIMULTANEOUS_QUERIES, MEMORY_LIMIT_EXCEEDED: other questions would fare
no better."""
_Asked = ParamSpec("_Asked")
_Answer = TypeVar("_Answer")


class History(Protocol):
    """Asks ClickHouse."""

    async def ask(
        self,
        question: Callable[Concatenate[Client, _Asked], _Answer],
        *arguments: _Asked.args,
        **options: _Asked.kwargs,
    ) -> _Answer:
        """What ``question`` (one of ``clickhouse.queries``) says. Raises ProblemError: 503."""


class ClickHouseHistory:
    """The real one; see the module. It connects when it is first asked, and again where that failed."""

    def __init__(self, address: ClickHouse) -> None:
        self._address = address
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="api-history")
        self._client: Client | None = None
        self._asked = 0
        self._breaker = Breaker(_AWAY)

    async def ask(
        self,
        question: Callable[Concatenate[Client, _Asked], _Answer],
        *arguments: _Asked.args,
        **options: _Asked.kwargs,
    ) -> _Answer:
        """See ``History``."""
        if self._asked >= QUEUE_MAX:
            raise away("Too many questions about the past are under way", 1)
        began = self._breaker.begin()
        self._asked += 1
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                running = asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: question(self._connected(), *arguments, **options)
                )
                running.add_done_callback(self._done)
                answer = await asyncio.shield(running)
        except (ClickHouseError, OSError, TimeoutError) as error:
            log.warning("ClickHouse was asked in vain: %s", type(error).__name__)
            if getattr(error, "code", None) in _OF_THE_SERVER:
                self._breaker.failed(began)
            else:
                self._breaker.answered()
            raise away(_AWAY) from None
        self._breaker.answered()
        return answer

    def _done(self, running: "asyncio.Future[_Answer]") -> None:
        """Its thread is free again, whether somebody still waits for it or not."""
        self._asked -= 1
        if not running.cancelled():
            running.exception()  # or an error that nobody waited for would be logged as lost

    def _connected(self) -> Client:
        if self._client is None:
            self._client = self._address.connect()
        return self._client

    def close(self) -> None:
        """Asks nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()
