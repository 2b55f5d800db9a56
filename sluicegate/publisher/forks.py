"""What becomes of publishers in a forked child: its copies begin anew."""

import os
import weakref
from typing import Final, Protocol


class Renewable(Protocol):
    """What a forked child must begin anew."""

    def renew_after_fork(self) -> object:
        """Begins anew, in the child; returns what the child must not finalize."""


_LIVE: Final["weakref.WeakSet[Renewable]"] = weakref.WeakSet()
_LEFT_TO_THE_PARENT: Final[list[object]] = []
"""What a forked child must not finalize: sockets, tasks and locks that are its parent's."""


def renew_in_children(renewable: Renewable) -> None:
    """From now on ``renewable`` begins anew in every forked child, for as long as it lives."""
    _LIVE.add(renewable)


def _renew_all() -> None:
    _LEFT_TO_THE_PARENT.extend([renewable.renew_after_fork() for renewable in list(_LIVE)])


os.register_at_fork(after_in_child=_renew_all)
