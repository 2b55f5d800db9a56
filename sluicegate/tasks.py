"""The end of a task that runs in the background."""

import asyncio
import contextlib


async def end_task(task: asyncio.Task[None] | None) -> None:
    """Cancels ``task`` and waits until it has ended; None is none. Raises what it failed with."""
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
