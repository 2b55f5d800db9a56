"""The follower: reads what the workers decided, from the start, then as it falls."""

from .follower import Follower, FollowerSettings, LogRecord, TopicFollower
from .lags import LagFigures, Lags
from .view import Change, Limits, Outcome, View

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
