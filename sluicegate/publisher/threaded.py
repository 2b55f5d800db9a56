"""A publisher for services without an event loop: a background thread sends."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, Self, TypeVar, Unpack

from .control import Control
from .event import EventFields, OnRefused
from .forks import renew_in_children
from .lane import Tap
from .publisher import Publisher
from .settings import PublisherSettings
from .stats import PublisherStats
from .transport import Transport

_T = TypeVar("_T")
_GRACE_SECONDS: Final = 15.0


class ThreadedPublisher:
    """``Publisher`` with an event loop of its own in a daemon thread. All methods may be called in any thread.

    In a forked child (a pre-forking server) the thread is started again with the first ``publish``. At the end of the
    process call ``close``: a daemon thread is not waited for.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        *,
        transport: Transport | None = None,
        on_refused: OnRefused | None = None,
        tap: Tap | None = None,
    ) -> None:
        """See ``Publisher``. ``tap`` is called in the background thread."""
        self._publisher = Publisher(settings, transport=transport, on_refused=on_refused, tap=tap)
        self._begin()
        renew_in_children(self)

    def _begin(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._forked = False

    def start(self) -> None:
        """Starts the thread; Kafka need not be there. Raises what ``Publisher.start`` raises."""
        with self._starting:
            if self._thread is not None:
                raise RuntimeError("a publisher starts once; make a new one")
            running = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(running,), name="sluicegate-publisher", daemon=True)
            self._thread.start()
            running.wait()
        self._call(self._publisher.start())

    def publish(self, **fields: Unpack[EventFields]) -> bool:
        """Takes one usage event; True where it was taken, False where it was dropped or refused. Never waits."""
        if self._forked:
            self._start_again()
        return self._publisher.publish(**fields)

    def publish_wait(self, **fields: Unpack[EventFields]) -> bool:
        """The same, but blocks until there is room. False where it was refused or the publisher was closed."""
        if self._forked:
            self._start_again()
        return self._call(self._publisher.publish_wait(**fields))

    def send_control(self, account_id: str, value: bytes) -> Control | None:
        """See ``Publisher.send_control``."""
        return self._publisher.send_control(account_id, value)

    def close(self, timeout_s: float = 10.0) -> PublisherStats:
        """See ``Publisher.close``; then ends the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return self._publisher.close_unstarted()
        if not thread.is_alive():
            return self._publisher.stats()
        stats = self._call(self._publisher.close(timeout_s))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_GRACE_SECONDS)
        return stats

    def stats(self) -> PublisherStats:
        """See ``Publisher.stats``."""
        return self._publisher.stats()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, running: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.call_soon(running.set)
            self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the publisher is not started")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _start_again(self) -> None:
        with self._starting:
            if not self._forked:
                return
            self._forked = False
        self.start()

    def renew_after_fork(self) -> object:
        """Makes the copy that a forked child got start its own thread with the next ``publish``; returns what is its
        parent's."""
        of_the_parent = (self._loop, self._thread)
        self._begin()
        self._forked = of_the_parent[1] is not None
        return of_the_parent
