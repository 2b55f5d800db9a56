"""Who speaks for a node: one process of it, for as long as it lives."""

import os
import secrets
from dataclasses import dataclass
from typing import Final, Self

_NODE_SIGNS_MAX: Final = 52


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """``node`` is no other living process's: a host that serves with several has one name for each. ``boot_id`` is no
    other process's ever, so that one which got a dead one's name takes its place."""

    node: str
    boot_id: str

    @classmethod
    def this(cls, node: str) -> Self:
        """This process, on the host or in the container that is called ``node``. To be asked after a fork."""
        return cls(f"{node[:_NODE_SIGNS_MAX]}@{os.getpid()}", secrets.token_hex(8))
