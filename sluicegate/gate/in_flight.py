"""The requests that this process serves at the moment, and how many the others serve as far as that is known."""

from collections import Counter, deque
from typing import Final

from ..follower.entries import Verdict

SAID_KEPT_MS: Final = 2_000
"""How long a gauge may take to be in a worker's decision: until then either value may be in its sum."""
_SAID_MAX: Final = 32


class Serving:
    """The requests of one organization that this process serves. Its size is that of what is being served."""

    __slots__ = ("_others", "_others_of", "_said", "account_id", "organization_id", "running", "subjects")

    def __init__(self, organization_id: str, account_id: str) -> None:
        self.organization_id = organization_id
        self.account_id = account_id
        self.running = 0
        self.subjects: Counter[tuple[str, str]] = Counter()
        """By (operation, subject), where at most so many of a subject may run."""
        self._said: deque[tuple[int, int]] = deque([(0, 0)], maxlen=_SAID_MAX)
        self._others = 0
        self._others_of = ""

    def say(self, now_ms: int, requests: int) -> None:
        """A gauge was made that says ``requests`` of it: 0 where it was left out."""
        self._said.append((now_ms, requests))

    def is_over(self, now_ms: int) -> bool:
        """Whether nothing runs, and nothing has for so long that no decision speaks of it any more."""
        at_ms, said = self._said[-1]
        return not self.running and not said and now_ms - at_ms > SAID_KEPT_MS

    def others(self, verdict: Verdict, now_ms: int) -> int:
        """How many requests the other nodes served by ``verdict``: the sum of all nodes' gauges without this one's.

        Which of its own last values the sum holds is not known; the least one leaves the others the most.
        """
        if self._others_of != verdict.decision_id:
            while len(self._said) > 1 and self._said[1][0] <= now_ms - SAID_KEPT_MS:
                self._said.popleft()
            self._others_of = verdict.decision_id
            self._others = max(0, verdict.observed - min(said for _, said in self._said))
        return self._others


class InFlight:
    """Serving by organization. Not for several threads at once."""

    def __init__(self) -> None:
        self.serving: dict[str, Serving] = {}
        self.changed: set[str] = set()
        """The organizations whose counts changed since they were last said."""

    def __len__(self) -> int:
        return sum(one.running for one in self.serving.values())

    def begin(self, organization_id: str, account_id: str, subject: tuple[str, str] | None) -> None:
        """One more request runs."""
        serving = self.serving.get(organization_id)
        if serving is None:
            serving = self.serving[organization_id] = Serving(organization_id, account_id)
        serving.running += 1
        if subject is not None:
            serving.subjects[subject] += 1
        self.changed.add(organization_id)

    def end(self, organization_id: str, subject: tuple[str, str] | None, now_ms: int) -> None:
        """One that was begun runs no more."""
        serving = self.serving[organization_id]
        serving.running -= 1
        if subject is not None:
            serving.subjects[subject] -= 1
            if not serving.subjects[subject]:
                del serving.subjects[subject]
        self.changed.add(organization_id)
        if serving.is_over(now_ms):
            self._drop(organization_id)

    def forget(self, now_ms: int) -> None:
        """Drops organizations of which nothing runs and nothing is to be said any more."""
        for organization_id in [name for name, one in self.serving.items() if one.is_over(now_ms)]:
            self._drop(organization_id)

    def _drop(self, organization_id: str) -> None:
        del self.serving[organization_id]
        self.changed.discard(organization_id)
