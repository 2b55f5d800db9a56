"""Asks the workers for leases and gives them back, for as long as a service runs (requirements, section 3; ADR 18)."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from sluicegate_schemas.envelope import ENCODE
from sluicegate_schemas.outputs import Lease

from .follower.view import Change, View
from .gate.escrow import Escrow, EscrowSettings
from .gate.hard import EscrowReserve
from .publisher import Control
from .tasks import end_task

log = logging.getLogger("sluicegate.lending")

SendControl = Callable[[str, bytes], Control | None]
"""``Publisher.send_control``."""
TEND_EVERY_S: Final = 0.1


class Lending:
    """The leases of this process. ``reserve`` is for the gate, ``on_change`` for the follower, whose view has to read
    the leases of ``node``. Requests go the way of the usage events, behind those of the leases that they give back."""

    def __init__(
        self, view: View, send: SendControl, node: str, boot_id: str, settings: EscrowSettings | None = None
    ) -> None:
        view.node = node
        self.escrow: Final = Escrow(node, boot_id, settings)
        self.reserve: Final = EscrowReserve(view, self.escrow, monotonic_ms, self._ask_soon)
        self._send = send
        self._asks = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look after the leases in the running event loop."""
        self._task = asyncio.create_task(self._run(), name="sluicegate-lending")

    async def stop(self) -> None:
        """Gives everything back: no request runs any more, and the publisher is not closed yet."""
        task, self._task = self._task, None
        await end_task(task)
        self.escrow.give_back()
        self._ask()

    def on_change(self, change: Change) -> None:
        """Hears of an answer."""
        if isinstance(change.record, Lease):
            self.reserve.learn(change.record)
            self._ask_soon()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            try:
                self.escrow.tend(monotonic_ms())
                self._ask()
            except Exception:
                log.exception("leases were not looked after; trying again")

    def _ask_soon(self) -> None:
        """Once for all that happens in this turn of the event loop."""
        if not self._asks:
            self._asks = True
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        self._asks = False
        for request in self.escrow.asks(monotonic_ms()):
            if self._send(request.account_id, ENCODE(request)) is None:
                self.escrow.unsent(request)


def monotonic_ms() -> int:
    """Milliseconds of a clock that never goes back."""
    return time.monotonic_ns() // 1_000_000
