"""Verdicts on limits of counts (requests at a time, resources): block from the limit on, allow below it.

How much of a limit is used is told as well, since a gate decides by it before the limit is reached: each time that the
count's *level* changes, which who counts defines; 0 is a level of which nobody needs to hear.
"""

from collections.abc import Callable, Mapping
from typing import Final

from .policy import EventCause, Moment, Policy
from .scopes import ScopeNames
from .settings import DomainSettings
from .tables import COUNT_MAX, StandingRow

Level = Callable[[int, int], int]
"""(observed, limit) → level."""


class CountVerdicts:
    """Publishes what changed of such a limit, and not more often than is useful.

    A former owner may have published a block that its flush did not keep, and that this owner's order of commands and
    usage does not repeat. So for a while after a takeover a limit of which nothing stands is published at its first
    look, whatever that shows: what the former owner had taken in is taken in again within that time.
    """

    def __init__(self, settings: DomainSettings, policy: Policy, levels: Mapping[str, Level]) -> None:
        """``levels`` are by limit."""
        self._settings: Final = settings
        self._policy: Final = policy
        self._levels: Final = levels
        self._doubtful_until_ms = 0
        policy.use_tellers.update(dict.fromkeys(levels, self._tells_use))

    def resume(self, moment: Moment) -> None:
        """This owner begins."""
        self._doubtful_until_ms = moment.now_ms + self._settings.allows_kept_ms

    def say(self, moment: Moment, scope: ScopeNames, limit_name: str, limit: int | None, observed: int, tier: str,
            cause: EventCause | None) -> int | None:  # fmt: skip
        """Publishes the verdict if it is news; ``limit`` None is none. Returns when it is to be said, if that is news
        of which the last is too fresh: then it is to be looked at again."""
        standing = self._policy.standing(scope, limit_name)
        shown = 0 if limit is None else self._levels[limit_name](observed, limit)
        verdict = "block" if limit is not None and observed >= limit else "allow"
        if standing is None:
            if not shown and verdict == "allow" and moment.now_ms >= self._doubtful_until_ms:
                return None
        elif verdict == standing.verdict:
            before = self._told(standing)
            if shown == before and (not shown or limit == standing.limit):
                return None
            due_ms = standing.decided_at_ms + self._settings.block_interval_ms
            if moment.now_ms < due_ms:
                return due_ms
        stated = COUNT_MAX if limit is None else limit
        self._policy.decide(moment, scope, verdict, limit_name, stated, observed, None, tier, cause)
        return None

    def _told(self, row: StandingRow) -> int:
        return 0 if row.limit == COUNT_MAX else self._levels[row.limit_name](row.observed, row.limit)

    def _tells_use(self, row: StandingRow) -> bool:
        return self._told(row) > 0
