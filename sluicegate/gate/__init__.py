"""The gate: answers each request at once, by its own buckets and the workers' decisions."""

from .answer import Answer, not_found
from .asked import Asked, Description, usable
from .gate import Gate, Knowledge
from .reserve import Hold, Reserve, Shortfall, Spend
from .running import Running
from .settings import GateSettings
from .state import Bound, GateState

__all__ = [
    "Answer",
    "Asked",
    "Bound",
    "Description",
    "Gate",
    "GateSettings",
    "GateState",
    "Hold",
    "Knowledge",
    "Reserve",
    "Running",
    "Shortfall",
    "Spend",
    "not_found",
    "usable",
]
