"""What may befall a simulated world: the faults, and the moments at which they hurt most."""

import contextvars
import random
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal, Protocol

from .log import SimBroker
from .loop import Process, VirtualLoop
from .network import Network

Moment = Literal["now", "soon", "sending", "appended"]
"""``soon``: after a drawn number of steps of the process, so between any two awaits. ``sending``: its next append to
the state is built and not sent. ``appended``: its next append to the state stands, and the reply is under way."""
HANDLES_MAX: Final = 300


class Place(Protocol):
    """What of a world the faults need."""

    loop: VirtualLoop
    broker: SimBroker
    network: Network
    seen: Counter[str]

    def random(self, *purpose: object) -> random.Random:
        """A stream of random numbers for a purpose."""

    def note(self, who: str, what: str, detail: str = "") -> None:
        """Keeps a step."""


class Faults:
    """Faults as methods of a world. Durations are in ms of virtual time; a fault that lasts ends by itself."""

    def when(self: Place, process: Process, moment: Moment, strike: Callable[[], object]) -> None:
        """``strike`` happens outside of all processes, at that moment of ``process``, once; never if it dies before."""
        match moment:
            case "now":
                strike()
            case "soon":
                handles = int(self.random("soon", process.number, process.name).random() * HANDLES_MAX)
                process.fuses.append((process.handles_run + 1 + handles, strike))
                process.fuses.sort(key=lambda fuse: fuse[0])
            case "sending":
                process.connection.before_append.append(strike)
            case "appended":
                process.connection.after_append.append(strike)

    # Processes.

    def kill(self: Place, process: Process) -> None:
        """kill -9. What it has sent arrives, late, or never."""
        if process.alive:
            self.seen["kills"] += 1
            self.note(process.name, "killed")
            process.kill()

    def pause(self: Place, process: Process, for_ms: int | None = None) -> None:
        """SIGSTOP, and SIGCONT after ``for_ms`` (None: when somebody says so)."""
        if process.alive and not process.paused:
            self.seen["pauses"] += 1
            self.note(process.name, "paused")
            process.pause()
            if for_ms is not None:
                _later(self, for_ms, lambda: Faults.resume(self, process))

    def resume(self: Place, process: Process) -> None:
        """SIGCONT."""
        if process.alive and process.paused:
            self.note(process.name, "resumed")
            process.resume()

    def clock_jump_of(self: Place, process: Process, by_ms: int) -> None:
        """The wall clock of a process jumps."""
        process.clock_ahead_ms += by_ms
        self.note(process.name, "its clock jumps", f"{by_ms} ms")

    # Connections.

    def cut(self: Place, process: Process, for_ms: int) -> None:
        """Its requests are lost, or their replies, or they arrive long after the client gave up."""
        process.connection.cut_until = _until(self, for_ms)
        self.seen["connections cut"] += 1
        self.note(process.name, "cut off", f"{for_ms} ms")

    def lose_replies(self: Place, process: Process, for_ms: int) -> None:
        """Most requests take effect, and their senders never hear of it."""
        process.connection.replies_lost_until = _until(self, for_ms)
        self.note(process.name, "replies are lost", f"{for_ms} ms")

    def slow(self: Place, process: Process, for_ms: int) -> None:
        """Requests and replies take up to seconds."""
        process.connection.slow_until = _until(self, for_ms)
        self.note(process.name, "slow", f"{for_ms} ms")

    # The broker.

    def broker_down(self: Place, for_ms: int) -> None:
        """The broker dies and is back after ``for_ms``: nothing acknowledged is lost, and no session ends meanwhile."""
        broker = self.broker
        if broker.is_down:
            return
        self.seen["broker deaths"] += 1
        self.note("broker", "down", f"{for_ms} ms")
        broker.is_down = True
        broker.boots += 1
        for group in self.network.groups.values():
            group.broker_died()

        def back() -> None:
            broker.is_down = False
            self.note("broker", "up")
            for group in self.network.groups.values():
                group.broker_came_back()

        _later(self, for_ms, back)

    def broker_restart(self: Place) -> None:
        """Away for about a second."""
        Faults.broker_down(self, 400 + int(self.random("restart", self.broker.boots).random() * 1200))

    def disk_full(self: Place, for_ms: int) -> None:
        """Appends are refused; readers notice nothing."""
        broker = self.broker
        self.seen["disk full"] += 1
        self.note("broker", "disk full", f"{for_ms} ms")
        broker.disk_full_until = max(broker.disk_full_until, _until(self, for_ms))

    def clock_jump(self: Place, by_ms: int) -> None:
        """The broker's clock jumps, and with it the log's time."""
        self.broker.clock_ahead_ms += by_ms
        self.seen["clock jumps"] += 1
        self.note("broker", "its clock jumps", f"{by_ms} ms")

    def compact(self: Place, topic: str, partition: int) -> None:
        """The log cleaner passes over one partition of a topic (full name)."""
        removed = self.broker.compact(topic, partition)
        if removed:
            self.seen["compactions"] += 1
            self.note("broker", f"compacted {topic}/{partition}", f"{removed} records")

    def compact_all(self: Place) -> None:
        """The log cleaner passes over all compacted topics."""
        for topic in self.broker.topics():
            for partition in range(self.broker.partitions(topic)):
                if self.broker.log(topic, partition).settings.is_compacted:
                    Faults.compact(self, topic, partition)

    def leave_hole(self: Place, topic: str, partition: int) -> None:
        """Somebody's transaction ends: an offset without a record."""
        self.broker.log(topic, partition).leave_hole()

    # Groups.

    def rebalance(self: Place, group: str) -> None:
        """All members must join again, as when a member comes that nobody has seen."""
        self.seen["rebalances forced"] += 1
        self.note(group, "told to rebalance")
        self.network.group(group).rebalance()

    def delete_group(self: Place, group: str) -> None:
        """The group is deleted: its offsets are gone, and its generations begin anew."""
        self.seen["groups deleted"] += 1
        self.note(group, "deleted")
        self.network.group(group).forget()


def _until(world: Place, for_ms: int) -> float:
    return world.loop.time() + for_ms / 1000


def _later(world: Place, after_ms: int, happens: Callable[[], object]) -> None:
    world.loop.call_later(after_ms / 1000, happens, context=contextvars.Context())
