"""One after another, by name: who changes what was there reads it when the change before has its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """Holds nothing of a name that nobody waits for."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, name: str, limit_s: float) -> AsyncIterator[None]:
        """Its turn. Raises TimeoutError where that does not come in time."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with asyncio.timeout(limit_s):
            await lock.acquire()
        try:
            yield
        finally:
            lock.release()
