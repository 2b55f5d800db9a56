"""The follower: reads what the workers decided, from the start, then as it falls."""

from .follower import Follower, FollowerSettings, LogRecord, TopicFollower
from .lags import LagFigures, Lags
from .ranked import Outcome
from .view import Change, Limits, View

__all__ = [
    "Change",
    "Follower",
    "FollowerSettings",
    "LagFigures",
    "Lags",
    "Limits",
    "LogRecord",
    "Outcome",
    "TopicFollower",
    "View",
]
