"""What the API follows beside what a gate does: balances and alerts, each into its table."""

from typing import Final

from sluicegate.brokers import Brokers
from sluicegate.clock import Clock, epoch_ms
from sluicegate.follower import FollowerSettings, LogRecord, TopicFollower
from sluicegate_schemas.topics import ALERTS, BALANCES

from .alerts import AlertTable
from .balances import BalanceTable

FETCH_WAIT_MS: Final = 20
ALERTS_WAIT_MS: Final = 250
"""Alerts may be seen a moment later than balances: to ask less often costs less."""


def follow_balances(
    brokers: Brokers, topic_prefix: str, table: BalanceTable, *, clock: Clock = epoch_ms
) -> TopicFollower:
    """A follower, not started yet, that folds the balances topic into ``table``."""

    def fold(_topic: str, record: LogRecord) -> None:
        # What stood there before this process did came when the log got it.
        table.apply(record.key, record.value, clock() if follower.ready else record.timestamp)

    settings = FollowerSettings(topic_prefix=topic_prefix, fetch_wait_ms=FETCH_WAIT_MS)
    follower = TopicFollower(brokers, settings, (BALANCES,), fold, clock=clock)
    return follower


def follow_alerts(brokers: Brokers, topic_prefix: str, table: AlertTable, *, clock: Clock = epoch_ms) -> TopicFollower:
    """The same with the alerts topic."""

    def fold(_topic: str, record: LogRecord) -> None:
        table.apply(record.value)

    settings = FollowerSettings(topic_prefix=topic_prefix, fetch_wait_ms=ALERTS_WAIT_MS)
    return TopicFollower(brokers, settings, (ALERTS,), fold, clock=clock)
