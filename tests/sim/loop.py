"""Virtual time and simulated processes: an event loop that jumps from timer to timer, and kill -9 and SIGSTOP in it.

A process is every handle of the loop whose context belongs to it. Killed, none of its handles runs again: no
``finally``, no cancellation, at whatever await it stood. Paused, its handles wait aside while time goes on for all
others.
"""

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

STARTS_AT_S: Final = 1_000.0
PROCESS: Final = contextvars.ContextVar["Process | None"]("process", default=None)
_TASKS_PRUNED_ABOVE: Final = 64
_HANDLE: Final[Any] = object.__new__
"""Handles are filled by hand: their own ``__init__`` looks whether the loop is debugged, which takes as long again."""
_copy_context: Final = contextvars.copy_context
_NOBODY: Final = contextvars.Context()


class NothingLeftError(RuntimeError):
    """The loop has neither work nor a timer: whoever waits will wait for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose ``time()`` is virtual (seconds).

    ``draw`` decides in which order the processes take turns among what is ready; within a process the order is
    asyncio's, which its code may rely on.
    """

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self._draw = draw
        self._virtual_s = STARTS_AT_S
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self._clock_resolution = 1e-9
        self.handles_run = 0
        self.failures: list[str] = []
        """What callbacks raised and nobody caught."""
        self.set_task_factory(_make_task)
        self.set_exception_handler(lambda _, __: None)  # what the collector finds depends on when it looks

    def time(self) -> float:
        return self._virtual_s

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = _HANDLE(asyncio.Handle)
        handle._context = _copy_context() if context is None else context
        handle._loop = self
        handle._callback = callback
        handle._args = args
        handle._cancelled = False
        handle._repr = handle._source_traceback = None
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._virtual_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = _HANDLE(asyncio.TimerHandle)
        timer._context = _copy_context() if context is None else context
        timer._loop = self
        timer._callback = callback
        timer._args = args
        timer._cancelled = False
        timer._repr = timer._source_traceback = None
        timer._when, timer._scheduled = when, True
        self._timers_made = made = self._timers_made + 1
        heapq.heappush(self._timers, (when, made, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: cancelled timers leave the heap when they are due."""

    def _write_to_self(self) -> None:
        """Nothing: there is no other thread to wake this one for."""

    def run_in_executor(self, *_: Any) -> Any:
        raise AssertionError("a thread has no place in virtual time")

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise NothingLeftError("nothing is ready and no timer runs")
            self._virtual_s = max(self._virtual_s, timers[0][0])
        now = self._virtual_s
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
        if len(ready) > 2:
            self._take_turns()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None and (process.paused or not process.alive):
                process.held.append(handle)
                continue
            if process is not None:
                process.handles_run += 1
                if process.fuses and process.handles_run >= process.fuses[0][0]:
                    _NOBODY.run(process.fuses.pop(0)[1])
                    if not process.alive or process.paused:
                        process.held.append(handle)
                        continue
            self.handles_run += 1
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                name = getattr(handle._callback, "__qualname__", type(handle._callback).__name__)
                self.failures.append(f"Exception in callback {name}: {error!r}")

    def _take_turns(self) -> None:
        """Merges what the processes have ready in a drawn order."""
        ready = self._ready
        queues: dict[int, deque[asyncio.Handle]] = {}
        for handle in ready:
            process = handle._context.get(PROCESS)
            queues.setdefault(0 if process is None else process.number, deque()).append(handle)
        if len(queues) < 2:
            return
        ready.clear()
        waiting = list(queues.values())
        while len(waiting) > 1:
            place = int(self._draw.random() * len(waiting))
            queue = waiting[place]
            ready.append(queue.popleft())
            if not queue:
                del waiting[place]
        ready.extend(waiting[0])


def _make_task(loop: Any, work: Coroutine[Any, Any, Any], context: Any = None) -> "asyncio.Task[Any]":
    task = asyncio.Task(work, loop=loop, context=context)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # those of a killed process never end
    process = PROCESS.get() if context is None else context.get(PROCESS)
    if process is not None:
        process.tasks.append(task)
        if len(process.tasks) > process.prune_above:
            process.tasks = [task for task in process.tasks if not task.done()]
            process.prune_above = 2 * len(process.tasks) + _TASKS_PRUNED_ABOVE
    return task


class Process:
    """A simulated operating system process; ``number`` is its place in the order of their making, from 1 on."""

    def __init__(self, loop: VirtualLoop, name: str, number: int) -> None:
        self.loop = loop
        self.name = name
        self.number = number
        self.alive = True
        self.paused = False
        self.held: deque[asyncio.Handle] = deque()
        """What waits while it is paused, and what never ran when it is dead."""
        self.tasks: list[asyncio.Task[Any]] = []
        """Kept when it is dead: what the collector closes would run its ``finally`` blocks."""
        self.prune_above = _TASKS_PRUNED_ABOVE
        self.handles_run = 0
        self.fuses: list[tuple[int, Callable[[], object]]] = []
        """(handles of the process, what happens before the next), sorted."""
        self.clock_ahead_ms = 0
        """How far its wall clock is ahead."""
        self.connection: Any = None
        """Its ``network.Connection``."""

    def run(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> "asyncio.Task[Any]":
        """Starts ``main`` in the process."""
        context = contextvars.Context()
        context.run(PROCESS.set, self)
        return self.loop.create_task(context.run(main), context=context)

    def kill(self) -> None:
        """kill -9: nothing of it runs again."""
        self.alive = False

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: first comes what waited."""
        self.paused = False
        if self.alive:
            self._run_what_waits()

    def end(self) -> None:
        """The history is over: what is left is cancelled, also of the dead, and must not find anything to act on."""
        self.alive, self.paused = True, False
        for task in self.tasks:
            task.cancel()
        self._run_what_waits()

    def _run_what_waits(self) -> None:
        held, self.held = self.held, deque()
        self.loop._ready.extendleft(reversed(held))


def current() -> Process:
    """The process that runs now. Raises LookupError outside of any."""
    process = PROCESS.get()
    if process is None:
        raise LookupError("not in a simulated process")
    return process
