"""The topics: names, keys, cleanup and settings (one table, read by every creator and checker)."""

from dataclasses import dataclass, field
from typing import Final, Literal

PREFIX_DEFAULT: Final = "sluicegate."
PARTITIONS_DEFAULT: Final = 8


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: ``name`` without prefix, its record key in words, and its broker settings.

    ``partitions`` is "account" where records are partitioned like usage (murmur2 of the account), "one" for a single
    partition, "free" where any will do.
    """

    name: str
    key: str
    partitions: Literal["account", "one", "free"]
    settings: dict[str, str] = field(default_factory=dict)


_COMPACT: Final = {"cleanup.policy": "compact"}
_COMPACT_LAGGED: Final = {"cleanup.policy": "compact", "min.compaction.lag.ms": "600000"}
_RECORD_16_MB: Final = {"max.message.bytes": "16777216"}

USAGE: Final = Topic("usage", "account", "account", {"retention.ms": "1209600000", **_RECORD_16_MB})
ACCOUNTS: Final = Topic("accounts", "account", "account", {"retention.ms": "-1"})
CATALOG: Final = Topic("catalog", "version", "one", _COMPACT)
STATE: Final = Topic("state", "table and key", "account", {**_COMPACT_LAGGED, **_RECORD_16_MB})
ENTITLEMENTS: Final = Topic("entitlements", "key hash or organization", "account", _COMPACT_LAGGED)
DECISIONS: Final = Topic("decisions", "scope and limit", "account", _COMPACT_LAGGED)
BALANCES: Final = Topic("balances", "account, organization or key; and month", "account", _COMPACT_LAGGED)
ALERTS: Final = Topic("alerts", "alert id", "free", {"retention.ms": "2592000000"})
REJECTS: Final = Topic("rejects", "none", "free", {"retention.ms": "2592000000"})
TRAIL: Final = Topic("trail", "account", "account", {"retention.ms": "-1"})
DELIVERIES: Final = Topic("deliveries", "kind, endpoint and webhook id", "one", {**_COMPACT, "segment.ms": "86400000"})

TOPICS: Final = (
    USAGE,
    ACCOUNTS,
    CATALOG,
    STATE,
    ENTITLEMENTS,
    DECISIONS,
    BALANCES,
    ALERTS,
    REJECTS,
    TRAIL,
    DELIVERIES,
)
SETTINGS_ALL: Final = {"message.timestamp.type": "LogAppendTime"}
"""Set on every topic: the log's time is the broker's."""
