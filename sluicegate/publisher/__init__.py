"""The publisher: how an API service sends usage events."""

from .control import Control
from .event import Charge, EventFields, OnRefused, Refusal
from .lane import Position, Tap
from .publisher import Publisher
from .settings import Overflow, PublisherSettings
from .stats import PublisherStats
from .threaded import ThreadedPublisher
from .transport import Transport, TransportError

__all__ = [
    "Charge",
    "Control",
    "EventFields",
    "OnRefused",
    "Overflow",
    "Position",
    "Publisher",
    "PublisherSettings",
    "PublisherStats",
    "Refusal",
    "Tap",
    "ThreadedPublisher",
    "Transport",
    "TransportError",
]
