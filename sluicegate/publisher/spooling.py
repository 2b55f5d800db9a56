"""When events go to disk: the one task that looks after the spool."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from .lane import Common, Lane
from .spool import Spool


async def keep_spool(
    common: Common, spool: Spool, lanes: list[Lane], stopping: asyncio.Event, adopt: Callable[[], Awaitable[None]]
) -> None:
    """Until ``stopping``: moves what Kafka does not take to disk in time, and takes over what dead processes left.

    Where memory is more than half full, events go to disk before they have the age for it.
    """
    settings = common.settings
    adopted_ms = synced_ms = common.clock.monotonic_ms()
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.spool_after_ms / 4_000):
                await stopping.wait()
        now_ms = common.clock.monotonic_ms()
        older_than_ms = now_ms if common.room.pressed else now_ms - settings.spool_after_ms
        try:
            for lane in list(lanes):
                await lane.spool(spool, older_than_ms)
            if now_ms - synced_ms >= settings.spool_fsync_ms:
                synced_ms = now_ms
                for lane in list(lanes):
                    await lane.sync()
            if now_ms - adopted_ms >= settings.spool_takeover_ms:
                adopted_ms = now_ms
                await adopt()
        except Exception as error:
            common.notices.warn("spool_write", f"the spool cannot be used: {error!r}; trying again")
