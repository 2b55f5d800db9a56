"""Organizations and keys by their ids, as the follower takes them in: a view has them as a gate looks for them."""

import asyncio
import contextlib
from typing import Final

from sluicegate.follower import Change
from sluicegate.operator.known import Known
from sluicegate_schemas.outputs import KeyEntitlement, OrganizationEntitlement


class Roster:
    """Give ``take`` to a follower's ``listen`` before it starts. It holds what the follower's view holds, so that the
    view's limits bound it."""

    def __init__(self) -> None:
        self.known: Final = Known({}, {})
        self._news = asyncio.Event()

    def take(self, change: Change) -> None:
        """Takes in what changed."""
        record = change.record
        if isinstance(record, KeyEntitlement):
            self.known.keys[record.api_key_id] = record
        elif isinstance(record, OrganizationEntitlement):
            self.known.organizations[record.organization_id] = record
        else:
            return
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def wait_for(self, *, organization_id: str, api_key_id: str | None, limit_s: float) -> None:
        """Waits until they are known here, or ``limit_s`` is over: so who just made them finds them."""
        organizations, keys = self.known
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while organization_id not in organizations or (api_key_id is not None and api_key_id not in keys):
                    await self._news.wait()
