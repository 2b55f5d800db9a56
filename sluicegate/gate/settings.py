"""What a gate does when it does not know, and how much it remembers."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GateSettings:
    """``when_not_ready`` is the answer until the follower has caught up once: "refuse" with 503, since until then the
    gate can tell neither a good key from a bad one nor a blocked account from an open one; or "admit", unmetered, for a
    service that authenticates its callers itself and would rather serve than be safe.

    Later, when decisions stop arriving for ``stale_after_ms``, each plan says by category what its requests get: see
    ``FailureMode``. What is known stays in force either way. ``keys_max`` bounds the buckets (see ``Limiter``),
    ``subjects_max`` the subjects and providers that are remembered.
    """

    when_not_ready: Literal["refuse", "admit"] = "refuse"
    stale_after_ms: int = 10_000
    keys_max: int = 200_000
    subjects_max: int = 100_000
    publish_ms_max: int = 250
    """How long a usage event takes to the log, for the stated bound: the publisher's linger, and an acknowledgement."""
