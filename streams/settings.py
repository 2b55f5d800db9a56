"""The workers' settings: environment variables ``SLUICEGATE_…``, read once, each with its meaning and its bounds.

| variable | meaning | default |
|---|---|---|
| SLUICEGATE_BOOTSTRAP_SERVERS | Kafka, ``host:port`` separated by commas | 127.0.0.1:9092 |
| SLUICEGATE_KAFKA_USERNAME, _PASSWORD or _PASSWORD_FILE | SCRAM-SHA-512 credentials | none |
| SLUICEGATE_KAFKA_CA_FILE | a PEM file: TLS, and the broker's certificate is held against it | none |
| SLUICEGATE_TOPIC_PREFIX | before each topic's name; another prefix is another generation of topics | sluicegate. |
| SLUICEGATE_PARTITIONS | partitions of the topics that are partitioned by account | 8 |
| SLUICEGATE_REPLICATION | copies of each partition, when a worker has to create the topics | 1 |
| SLUICEGATE_GROUP | the workers' consumer group | sluicegate-workers |
| SLUICEGATE_SINK_GROUP | the sink's consumer group on the state topic | sluicegate-sink |
| SLUICEGATE_WORKER_NAME | how this worker signs its claims | host name and process id |
| SLUICEGATE_DATA_DIR | a folder that Faust may write to; holds no state | .sluicegate/worker |
| SLUICEGATE_SESSION_S | seconds without a heartbeat until a worker's partitions go to others | 10 |
| SLUICEGATE_LEASE_MARGIN_S | seconds before the session's end after which a worker no longer flushes | 1.5 |
| SLUICEGATE_BALANCE_INTERVAL_MS | time at least from one telling of a partition's changed balances to the next | 50 |
| SLUICEGATE_FLUSH_INTERVAL_MS | time from one flush of a partition to the next; longer behind a large one | 200 |
| SLUICEGATE_FETCH_WAIT_MS | how long a fetch may wait for records | 50 |
| SLUICEGATE_ROWS_MAX | changed rows that make a flush early | 10000 |
| SLUICEGATE_BATCH_BYTES_MAX | the largest flush in bytes; below the state topic's max.message.bytes | 15000000 |
| SLUICEGATE_PENDING_BYTES_MAX | bytes of unapplied usage of a partition that pause its fetching | 4000000 |
| SLUICEGATE_TICK_INTERVAL_S | seconds between the ticks that let time pass on a partition | 5 |
| SLUICEGATE_CATALOGUE_AGE_MAX_S | seconds that the catalogue may be unseen before the worker waits with rating | 5 |
| SLUICEGATE_ESCROW_TTL_MS | how long gateway nodes may admit requests out of a lease of a hard limit | 30000 |
| SLUICEGATE_ESCROW_REQUEST_MS | how long such a request may run | 300000 |
| SLUICEGATE_ESCROW_LATE_MS | how long after that its usage may be on its way; then the rest is lent again | 300000 |
| SLUICEGATE_HEALTH_LISTEN | ``host:port`` of /livez, /readyz and /metrics; port 0: a free one | none |
| SLUICEGATE_READY_LAG_EVENTS_MAX | usage events not counted yet, of one partition, up to which it is ready | 1000000 |
| SLUICEGATE_READY_LAG_MAX_S | age in seconds of the oldest of them up to which it is ready | 30 |
| SLUICEGATE_STUCK_MAX_S | seconds without progress or reason until a process leaves its group and ends | 120 |
| SLUICEGATE_LOOP_BLOCKED_MAX_S | the same for an event loop that does not run | 60 |
| SLUICEGATE_ACCEPT_LOST_SOURCE | 1: go on though retention removed input that was not counted | 0 |

``python -m streams.health`` says by the file ``health.json`` in SLUICEGATE_DATA_DIR whether a worker or sink works;
what its states mean: docs/health.md.
"""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from sluicegate.brokers import BOOTSTRAP_SERVERS_DEFAULT, Brokers
from sluicegate_schemas.topics import PARTITIONS_DEFAULT, PREFIX_DEFAULT

from .endpoint import parse_listen

VARIABLE_PREFIX = "SLUICEGATE_"


class SettingsError(ValueError):
    """A setting is not usable; the message names the variable, its value and what it may be."""


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    parse.__doc__ = f"a whole number from {low} to {high}"
    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return value

    parse.__doc__ = f"seconds from {low} to {high}"
    return parse


def _word(text: str) -> str:
    """a text without spaces"""
    if not text or any(sign.isspace() for sign in text):
        raise ValueError
    return text


def _text(text: str) -> str:
    """a text that is not empty"""
    if not text.strip():
        raise ValueError
    return text


def _address(text: str) -> str:
    """an address to listen on, like 127.0.0.1:9464, or none"""
    listen = "" if text == "none" else text
    parse_listen(listen)
    return listen


def _switch(text: str) -> bool:
    """0 or 1"""
    return {"0": False, "1": True}[text]


def _setting(default: Any, parse: Callable[[str], Any]) -> Any:
    metadata = {"parse": parse}
    return (
        field(default_factory=default, metadata=metadata)
        if callable(default)
        else field(default=default, metadata=metadata)
    )


def _worker_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See the module's table; field names are the variables' in lower case."""

    bootstrap_servers: str = _setting(BOOTSTRAP_SERVERS_DEFAULT, _word)
    topic_prefix: str = _setting(PREFIX_DEFAULT, _word)
    partitions: int = _setting(PARTITIONS_DEFAULT, _integer(1, 4096))
    replication: int = _setting(1, _integer(1, 9))
    group: str = _setting("sluicegate-workers", _word)
    sink_group: str = _setting("sluicegate-sink", _word)
    worker_name: str = _setting(_worker_name, _word)
    data_dir: str = _setting(".sluicegate/worker", _text)
    session_s: float = _setting(10.0, _seconds(2, 300))
    lease_margin_s: float = _setting(1.5, _seconds(0.1, 60))
    flush_interval_ms: int = _setting(200, _integer(10, 10_000))
    balance_interval_ms: int = _setting(50, _integer(10, 10_000))
    fetch_wait_ms: int = _setting(50, _integer(1, 1500))
    rows_max: int = _setting(10_000, _integer(1, 20_000))
    batch_bytes_max: int = _setting(15_000_000, _integer(100_000, 100_000_000))
    pending_bytes_max: int = _setting(4_000_000, _integer(100_000, 1_000_000_000))
    tick_interval_s: float = _setting(5.0, _seconds(0.1, 3600))
    catalogue_age_max_s: float = _setting(5.0, _seconds(1, 3600))
    escrow_ttl_ms: int = _setting(30_000, _integer(1_000, 86_400_000))
    escrow_request_ms: int = _setting(300_000, _integer(1_000, 86_400_000))
    escrow_late_ms: int = _setting(300_000, _integer(1_000, 604_800_000))
    health_listen: str = _setting("", _address)
    ready_lag_events_max: int = _setting(1_000_000, _integer(0, 10**12))
    ready_lag_max_s: float = _setting(30.0, _seconds(0.1, 86_400))
    stuck_max_s: float = _setting(120.0, _seconds(2, 86_400))
    loop_blocked_max_s: float = _setting(60.0, _seconds(2, 86_400))
    accept_lost_source: bool = _setting(False, _switch)
    credentials: Brokers = field(default_factory=Brokers)
    """User, password and certificate authority; the address is ``bootstrap_servers``."""

    def __post_init__(self) -> None:
        if self.lease_margin_s >= self.session_s / 2:
            raise SettingsError(
                f"SLUICEGATE_LEASE_MARGIN_S is {self.lease_margin_s}; it must be less than half of SLUICEGATE_SESSION_S"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The settings in ``environment`` (default: the process's). Raises SettingsError."""
        environment = os.environ if environment is None else environment
        try:
            values: dict[str, Any] = {"credentials": Brokers.from_environment(environment)}
        except (OSError, ValueError) as error:
            raise SettingsError(str(error)) from None
        for setting in fields(cls):
            if not setting.metadata:
                continue
            variable = VARIABLE_PREFIX + setting.name.upper()
            if (text := environment.get(variable)) is None:
                continue
            parse = setting.metadata["parse"]
            try:
                values[setting.name] = parse(text)
            except (ValueError, KeyError):
                raise SettingsError(f"{variable} is {text!r}, and must be {parse.__doc__}") from None
        return cls(**values)

    @property
    def brokers(self) -> Brokers:
        """Where Kafka is, and who we are there."""
        return replace(self.credentials, bootstrap_servers=self.bootstrap_servers)

    def topic(self, name: str) -> str:
        """The full name of the topic ``name``."""
        return self.topic_prefix + name
