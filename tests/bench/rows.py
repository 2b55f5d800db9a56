"""The figures of the bench: what each measures, in what unit, and beside which peer of the same run."""

from dataclasses import dataclass
from typing import Final, Literal

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``peers`` are rows of the same group; the first is the one that ``ratio`` is about.

    ``is_peer``: it measures somebody else, for comparison.
    """

    id: str
    unit: str
    better: Better
    what: str
    peers: tuple[str, ...] = ()
    is_peer: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are measured together, once in each round, by ``module``'s ``measure``."""

    module: str
    rows: tuple[Row, ...]


_EPS: Final = "events/s"
KEYS: Final = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1m": 1_000_000}
"""Live keys by what the rows' names have of it; and organizations."""
ORGANIZATIONS: Final = {"10": 10, "1k": 1_000, "100k": 100_000}
GROUPS: Final = (
    Group(
        "throughput",
        (
            Row(
                "worker_envelopes_eps", _EPS, "more", "one worker, all features on, envelopes of 200 events",
                ("faust_plain_eps", "quix_eps", "consumer_bare_eps", "confluent_bare_eps"),
            ),
            Row(
                "worker_records_eps", _EPS, "more", "one worker, all features on, one JSON event a record",
                ("faust_plain_eps", "quix_eps", "consumer_bare_records_eps"),
            ),
            Row(
                "worker_2_eps", _EPS, "more", "two workers that share the partitions, the same envelopes",
                ("worker_envelopes_eps",),
            ),
            Row("worker_envelopes_cpu_us", "µs", "less", "processor time of the worker for an event in an envelope"),
            Row("worker_records_cpu_us", "µs", "less", "the same of a JSON event in a record of its own"),
            Row("worker_2_cpu_us", "µs", "less", "the same of an event in an envelope, by two workers",
                ("worker_envelopes_cpu_us",)),
            Row("faust_plain_eps", _EPS, "more", "plain Faust, two tables, one event a record", is_peer=True),
            Row("quix_eps", _EPS, "more", "Quix Streams, two counters in its state, one event a record", is_peer=True),
            Row("consumer_bare_eps", _EPS, "more", "aiokafka that only decodes the envelopes", is_peer=True),
            Row("consumer_bare_records_eps", _EPS, "more", "aiokafka that only decodes the records", is_peer=True),
            Row("confluent_bare_eps", _EPS, "more", "confluent-kafka that only decodes the envelopes", is_peer=True),
        ),
    ),
    Group(
        "publishing",
        (
            Row(
                "publisher_eps", _EPS, "more", "events published and acknowledged through one process",
                ("producer_bare_eps",),
            ),
            Row("publish_us", "µs", "less", "one call of publish, for the request that makes it",
                ("producer_send_us",)),
            Row("producer_bare_eps", _EPS, "more", "aiokafka, one event a record, acknowledged", is_peer=True),
            Row("producer_send_us", "µs", "less", "one await of aiokafka's send", is_peer=True),
        ),
    ),
    Group(
        "gates",
        (
            Row("gate_check_us", "µs", "less", "an admitted check of a key, headers not read",
                ("limits_redis_us", "limits_memory_us", "limiter_server_us")),
            Row("gate_headers_us", "µs", "less", "an admitted check with its headers",
                ("limits_redis_us", "limiter_server_us")),
            Row("gate_refusal_us", "µs", "less", "a refused check with headers and body", ("limits_redis_us",)),
            Row("limits_memory_us", "µs", "less", "limits, in memory: one moving window and its statistics",
                is_peer=True),
            Row("limits_redis_us", "µs", "less", "limits, in Redis on loopback: one fixed window and its statistics",
                is_peer=True),
            Row("limiter_server_us", "µs", "less",
                "go-limiter on an HTTP server on loopback: one token bucket and its headers", is_peer=True),
        ),
    ),
    Group(
        "following",
        (
            Row("gate_follow_us", "µs", "less",
                "processor time of a gate for each of 100,000 live decisions, from the socket to its view"),
            Row("gate_key_bytes", "bytes", "less",
                "memory of a key in use with one operation, and a tenth of its organization, for 20,000 keys"),
            Row("gate_block_bytes", "bytes", "less", "memory of a standing block, beside these"),
        ),
    ),
    Group(
        "event_costs",
        (
            *(
                Row(f"event_cost_keys_{name}_us", "µs", "less",
                    f"processor time of the state machine for an event, {keys:,} live keys in turn",
                    () if name == "1k" else ("event_cost_keys_1k_us",))
                for name, keys in KEYS.items()
            ),
            *(
                Row(f"event_cost_organizations_{name}_us", "µs", "less",
                    f"the same with 100,000 keys of {organizations:,} organizations",
                    () if name == "10" else ("event_cost_organizations_10_us",))
                for name, organizations in ORGANIZATIONS.items()
            ),
        ),
    ),
    Group(
        "decisions",
        (
            Row("decision_latency_p50_ms", "ms", "less",
                "from the call of publish to the gate that obeys, at 20,000 events/s, half of the decisions"),
            Row("decision_latency_p99_ms", "ms", "less", "the same, 99 of 100 decisions"),
            Row("decision_load_eps", _EPS, "more", "what the machine carried of these 20,000 beside the measurement"),
            Row("decision_latency_100k_p50_ms", "ms", "less",
                "the same where 100,000 events/s are offered, half of the decisions", ("decision_latency_p50_ms",)),
            Row("decision_latency_100k_p99_ms", "ms", "less", "99 of 100 decisions there",
                ("decision_latency_p99_ms",)),
            Row("decision_load_100k_eps", _EPS, "more", "what the machine carried of these 100,000",
                ("decision_load_eps",)),
        ),
    ),
    Group(
        "overshoot",
        (
            Row("overshoot_pct", "%", "less",
                "passed beyond a limit in a minute in which ten times as much was offered to four gates"),
            Row("overshoot_bound_pct", "%", "less", "the most that it could have been, as these gates stated it"),
        ),
    ),
    Group(
        "recovery",
        (
            Row("recovery_1m_keys_s", "s", "less",
                "a worker's start with a million rows, and two million records written over and not compacted",
                ("recovery_clean_s",)),
            Row("recovery_hour_s", "s", "less",
                "the same with 6.2 million, as an hour of 20,000 events/s leaves it, compaction lag included",
                ("recovery_clean_s",)),
            Row("recovery_clean_s", "s", "less", "the same with a log that holds each row once", is_peer=True),
        ),
    ),
    Group(
        "takeover",
        (Row("takeover_s", "s", "less", "from kill -9 to the other worker's first decision, with a session of 6 s"),),
    ),
    Group(
        "freshness",
        (
            Row("freshness_p50_ms", "ms", "less",
                "from an event to the ClickHouse query that shows it, at 5,000 events/s, half of the events"),
            Row("freshness_p99_ms", "ms", "less", "the same, 99 of 100 events"),
            Row("freshness_load_eps", _EPS, "more", "what the machine carried of these 5,000 beside the measurement"),
        ),
    ),
    Group(
        "sink",
        (
            Row("sink_rows_eps", "rows/s", "more",
                "state records that one sink turns into rows and has ClickHouse hold, at most", ("insert_bare_eps",)),
            Row("sink_row_cpu_us", "µs", "less", "processor time of the sink for each of them"),
            Row("sink_parts_max", "parts", "less",
                "parts of a day that wait for merges, at most, in a minute of 10,000 rows/s"),
            Row("sink_load_rows_eps", "rows/s", "more", "what the machine carried of these 10,000"),
            Row("insert_bare_eps", "rows/s", "more", "such rows inserted by clickhouse-connect alone", is_peer=True),
        ),
    ),
    Group(
        "usage_api",
        (
            Row("usage_api_p50_ms", "ms", "less",
                "GET /v1/organizations/usage at 500 requests/s beside 20,000 events/s, half of the requests"),
            Row("usage_api_p99_ms", "ms", "less", "the same, 99 of 100"),
            Row("usage_api_cpu_us", "µs", "less", "processor time of the API for each of them, all it did included"),
            Row("balance_lag_p50_ms", "ms", "less",
                "from the call of publish to the answer that counts the event, beside the same load, half of them"),
            Row("balance_lag_p99_ms", "ms", "less", "the same, 99 of 100"),
            Row("usage_api_load_eps", _EPS, "more", "the load that was reached meanwhile"),
        ),
    ),
    Group(
        "queries",
        (
            Row("org_month_ms", "ms", "less",
                "an organization's month by key and by operation, from 10 million rollup rows", ("org_month_raw_ms",)),
            Row("projection_1000_ms", "ms", "less",
                "the month-end projection of 1,000 organizations, from 10 million rollup rows"),
            Row("org_month_raw_ms", "ms", "less", "the same from raw events, a tenth as many as the rollups stand for",
                is_peer=True),
        ),
    ),
)  # fmt: skip

ROWS: Final = {row.id: row for group in GROUPS for row in group.rows}


def chosen(only: str) -> list[tuple[Group, set[str]]]:
    """The groups with the rows that ``only`` names (ids joined by commas; empty: all), peers included. Raises
    ValueError for an id that is none."""
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    if unknown := wanted - ROWS.keys():
        raise ValueError(f"no such figure: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    wanted |= {peer for name in wanted for peer in ROWS[name].peers}
    every = wanted or set(ROWS)
    return [(group, rows) for group in GROUPS if (rows := every & {row.id for row in group.rows})]
