"""Sluicegate for API services: publish usage, obey decisions.

``Sluicegate`` is all of it wired for an ASGI service; the parts stand alone too.
"""

from .brokers import Brokers
from .errors import ConfigurationError, RefusedError, SluicegateError
from .follower import Follower, FollowerSettings
from .gate import Answer, Gate, GateSettings
from .metering import Usage, current
from .middleware import Middleware
from .operations import Operation, by_routes
from .publisher import Charge, Publisher, PublisherSettings, PublisherStats, ThreadedPublisher
from .service import Sluicegate

__all__ = [
    "Answer",
    "Brokers",
    "Charge",
    "ConfigurationError",
    "Follower",
    "FollowerSettings",
    "Gate",
    "GateSettings",
    "Middleware",
    "Operation",
    "Publisher",
    "PublisherSettings",
    "PublisherStats",
    "RefusedError",
    "Sluicegate",
    "SluicegateError",
    "ThreadedPublisher",
    "Usage",
    "by_routes",
    "current",
]
