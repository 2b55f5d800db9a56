"""Says how many requests of each organization this process serves: when that changes, and so often that the workers
need not think that it died (requirements, section 2)."""

import asyncio
import heapq
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sluicegate_schemas.envelope import ENCODE, GAUGE_VERSION, WireGauge, WireInFlight
from sluicegate_schemas.gauge_checks import GAUGE_ORGANIZATIONS_MAX, GAUGE_SUBJECTS_MAX

from .clock import Clock, epoch_ms
from .gate.in_flight import InFlight, Serving
from .node_process import NodeProcess
from .publisher import Control
from .tasks import end_task

log = logging.getLogger("sluicegate.gauges")

SendControl = Callable[[str, bytes], Control | None]
"""``Publisher.send_control``."""
HEARTBEATS_A_TTL: Final = 3


@dataclass(frozen=True, slots=True)
class GaugeSettings:
    """``every_ms``: how often changed counts are said. ``ttl_ms``: how long a count holds when nothing follows it: a
    node that dies has its requests counted for that long."""

    every_ms: int = 250
    ttl_ms: int = 5_000


class _Account:
    """What was said of one account."""

    __slots__ = ("control", "said_ms")

    def __init__(self) -> None:
        self.control: Control | None = None
        self.said_ms = 0


class Gauges:
    """One gauge an account: all its organizations that this process serves.

    While one is on its way no other is made, so that what waits for a broker that is away is one record an account, and
    what follows it says how things are by then. Only accounts with something to say are held.

    A gauge holds so many organizations and subjects; what is left out of one, counted in ``organizations_left_out`` and
    ``subjects_left_out`` anew with each, is limited by what each process itself serves.
    """

    def __init__(
        self, in_flight: InFlight, send: SendControl, settings: GaugeSettings | None = None, *, clock: Clock = epoch_ms
    ) -> None:
        self.organizations_left_out = 0
        self.subjects_left_out = 0
        self._in_flight = in_flight
        self._send = send
        self._settings = settings or GaugeSettings()
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._sequence = 0
        self._process: NodeProcess | None = None
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._accounts)

    def start(self, process: NodeProcess) -> None:
        """Begins to speak for ``process`` in the running event loop."""
        self._process = process
        self._task = asyncio.create_task(self._run(), name="sluicegate-gauges")

    async def stop(self) -> None:
        """Ends, with the word that nothing runs here any more."""
        task, self._task = self._task, None
        await end_task(task)
        for account_id in list(self._accounts):
            self._say(account_id, [])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._settings.every_ms / 1000)
            try:
                self.say(self._clock())
            except Exception:
                log.exception("the requests in flight were not said; trying again")

    def say(self, now_ms: int) -> None:
        """Says what changed, and what was not said for a third of its time to live."""
        in_flight, heartbeat_ms = self._in_flight, self._settings.ttl_ms // HEARTBEATS_A_TTL
        serving: dict[str, list[Serving]] = defaultdict(list)
        due: dict[str, None] = {}
        for organization_id, one in in_flight.serving.items():
            serving[one.account_id].append(one)
            account = self._accounts.get(one.account_id)
            is_silent = one.running > 0 and (account is None or now_ms - account.said_ms >= heartbeat_ms)
            if organization_id in in_flight.changed or is_silent:
                due[one.account_id] = None
        for account_id in due:
            counts = _within_bounds(serving[account_id])
            if self._say(account_id, counts):
                self._accounts[account_id].said_ms = now_ms
                self._count_left_out(serving[account_id], counts)
                said = {count.org_id: count.in_flight for count in counts}
                for one in serving[account_id]:
                    one.say(now_ms, said.get(one.organization_id, 0))
                    in_flight.changed.discard(one.organization_id)
        in_flight.forget(now_ms)
        for account_id in [account_id for account_id in self._accounts if account_id not in serving]:
            del self._accounts[account_id]

    def _say(self, account_id: str, counts: list[WireInFlight]) -> bool:
        """Whether the gauge is on its way."""
        account = self._accounts.setdefault(account_id, _Account())
        if self._process is None or (counts and account.control is not None and not account.control.is_sent):
            return False
        self._sequence += 1
        gauge = WireGauge(
            GAUGE_VERSION,
            self._process.node,
            self._process.boot_id,
            self._sequence,
            self._settings.ttl_ms,
            account_id,
            counts,
        )
        account.control = self._send(account_id, ENCODE(gauge))
        return account.control is not None

    def _count_left_out(self, serving: list[Serving], counts: list[WireInFlight]) -> None:
        organizations = sum(one.running > 0 for one in serving) - sum(one.in_flight > 0 for one in counts)
        subjects = sum(len(one.subjects) for one in serving) - sum(len(one.subjects) for one in counts)
        if (organizations or subjects) and not (self.organizations_left_out or self.subjects_left_out):
            log.warning(
                "%s: a gauge has no room for %d organizations and %d subjects that are served here, so other nodes do "
                "not know of them; organizations_left_out and subjects_left_out count what follows",
                serving[0].account_id, organizations, subjects,
            )  # fmt: skip
        self.organizations_left_out += organizations
        self.subjects_left_out += subjects


def _within_bounds(serving: list[Serving]) -> list[WireInFlight]:
    """What one gauge holds of ``serving``: the busiest organizations, and of each the subjects that began first. What
    some do not need of their equal shares of the subjects goes to those that have more."""
    busiest = heapq.nlargest(GAUGE_ORGANIZATIONS_MAX, serving, key=lambda one: one.running)
    busiest.sort(key=lambda one: len(one.subjects))
    counts, room = [], GAUGE_SUBJECTS_MAX
    for at, one in enumerate(busiest):
        first = islice(one.subjects.items(), room // (len(busiest) - at))
        subjects = [(operation, subject, count) for (operation, subject), count in first]
        room -= len(subjects)
        counts.append(WireInFlight(one.organization_id, one.running, subjects))
    return counts
