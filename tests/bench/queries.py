"""How long an organization's month takes to answer, from rollups and, as the peer, from raw events; and forecasts."""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from clickhouse_connect.driver.client import Client

from clickhouse.connection import ClickHouse
from clickhouse.migrate import migrate
from clickhouse.projection import project
from clickhouse.queries import usage_by_each
from clickhouse.roll import roll
from tests.bench.session import Session

_ROWS: Final = 10_000_000
_DAYS: Final = 28
_ORGANIZATIONS: Final = 1_000
_RAW: Final = """
CREATE TABLE usage_raw (org_id LowCardinality(String), ts DateTime('UTC'), api_key_id LowCardinality(String),
    operation LowCardinality(String), credits_micro Int64) ENGINE = MergeTree ORDER BY (org_id, ts)
"""


def _names(number: str) -> str:
    """Skewed: the organization of a row, its key and operation."""
    organization = f"toString(toUInt32({_ORGANIZATIONS} * pow((cityHash64({number}) % 1000000) / 1000000, 3)))"
    return (
        f"concat('org_', {organization}) AS org_id, concat('key_', {organization}, '_', toString({number} % 3)) AS"
        f" api_key_id, arrayElement(['search.knn', 'documents.create', 'inference.llm', 'upload.file',"
        f" 'collections.list'], 1 + {number} % 5) AS operation"
    )


def _fill(session: Session) -> tuple[Client, datetime]:
    """A database with the month before now; kept for all rounds."""
    if "queries" not in session.kept:
        server = session.clickhouse
        address = ClickHouse(server.url, server.username, server.password, "bench")
        migrate(address)
        client = address.connect()
        session.cleanup.callback(client.close)
        start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=_DAYS)
        rows, origin = session.count(_ROWS), f"toDateTime({int(start.timestamp())}, 'UTC')"
        minutes = _DAYS * 1_440
        for day in range(_DAYS):  # a day is a partition, and an insert may touch a hundred
            first, last = rows * day // _DAYS, rows * (day + 1) // _DAYS
            client.command(
                "INSERT INTO usage_minute (org_id, api_key_id, operation, minute, source, chunk, category, requests,"
                " errors, throttled, units, credits_micro, events, rated_version, version, ingested_at)"
                f" SELECT {_names('number')}, {origin} + toIntervalMinute({minutes} * number DIV {rows}) AS at,"
                " 'state/0', number, 'search', 10, 0, 0, 10, 1000000, 10, 1, toUInt128(number), at + 1"
                f" FROM numbers({first}, {last - first})"
            )
        roll(client)
        client.command(_RAW)
        client.command(
            f"INSERT INTO usage_raw SELECT org_id, ts, api_key_id, operation, 100000 FROM (SELECT {_names('number')},"
            f" {origin} + toIntervalMinute({minutes} * number DIV {rows}) AS ts FROM numbers({rows}))"
        )
        client.command("OPTIMIZE TABLE usage_raw FINAL")
        session.kept["queries"] = client, start
    return cast(tuple[Client, datetime], session.kept["queries"])


def _ms(ask: Callable[[], object]) -> float:
    ask()
    times = []
    for _ in range(7):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1000


def measure(session: Session, wanted: Collection[str]) -> dict[str, float]:
    """One round of the wanted rows: each the median of seven questions about a large organization."""
    client, start = _fill(session)
    end = start + timedelta(days=_DAYS)
    figures = {}
    if "org_month_ms" in wanted:
        figures["org_month_ms"] = _ms(lambda: usage_by_each(client, "org_1", ("api_key_id", "operation"), start, end))
    if "projection_1000_ms" in wanted:
        figures["projection_1000_ms"] = _ms(lambda: project(client, end))
    if "org_month_raw_ms" in wanted:
        query = "SELECT {0}, count(), sum(credits_micro) FROM usage_raw WHERE org_id = 'org_1' GROUP BY {0}"
        figures["org_month_raw_ms"] = _ms(
            lambda: [client.query(query.format(grouping)).result_rows for grouping in ("api_key_id", "operation")]
        )
    return figures
