"""For the callers of a metered API: httpx transports that keep within the limits which its responses tell of.

::

    with httpx.Client(transport=PacedTransport(), headers={"Authorization": f"Bearer {key}"}) as client:
        client.post("https://api.example.com/v1/search", json=query)

Needs the extra ``sluicegate[client]``.
"""

from .breaker import Breaker
from .call import CircuitOpenError, Reason
from .hints import Hint, hints_of, retry_after_s
from .pace import Pacer
from .settings import ClientSettings
from .transport import AsyncFallback, AsyncPacedTransport, Fallback, PacedTransport

__all__ = [
    "AsyncFallback",
    "AsyncPacedTransport",
    "Breaker",
    "CircuitOpenError",
    "ClientSettings",
    "Fallback",
    "Hint",
    "PacedTransport",
    "Pacer",
    "Reason",
    "hints_of",
    "retry_after_s",
]
