"""Usage of labels over time, from what their ledgers held at the end of each hour."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client

from clickhouse.label_rows import LabelRow
from clickhouse.label_usage import LabelInterval, label_series

pytestmark = pytest.mark.engine

HOUR = timedelta(hours=1)
MONTH = datetime(2026, 3, 1, tzinfo=UTC)
EVER = (MONTH - timedelta(days=90), MONTH + timedelta(days=90))


def row(at: datetime, requests: int, credits_micro: int, *, label: str = "a=b", month: int = 202603, version: int = 1,
        org_id: str = "org_a") -> LabelRow:  # fmt: skip
    return LabelRow(org_id, label, month, int(at.timestamp()), requests, credits_micro, version)


def write(client: Client, *rows: LabelRow) -> None:
    client.insert("usage_label", rows, column_names=LabelRow._fields)


def series(
    client: Client, start: datetime, end: datetime, interval: LabelInterval = "hour"
) -> list[tuple[datetime, str, int, int]]:
    points = label_series(client, "org_a", interval, start, end, rows_max=10_000)
    return [(one.at, one.name, one.usage.requests, one.usage.credits_micro) for one in points]


def test_an_hour_is_what_it_has_beyond_the_last_one_that_was_written(client: Client) -> None:
    write(client, row(MONTH, 3, 300), row(MONTH + 5 * HOUR, 10, 900), row(MONTH + 6 * HOUR, 10, 900))
    write(client, row(MONTH, 4, 400, version=2), row(MONTH, 1, 1, org_id="org_b"))
    first, second = (MONTH, "a=b", 4, 400), (MONTH + 5 * HOUR, "a=b", 6, 500)
    assert series(client, *EVER) == [first, second], "and an hour that added nothing is left out"
    assert series(client, MONTH + HOUR, MONTH + 6 * HOUR) == [second]
    assert series(client, MONTH + HOUR, MONTH + 5 * HOUR) == []
    assert series(client, *EVER, "day") == [(MONTH, "a=b", 10, 900)]


def test_what_comes_late_for_the_month_before_is_in_the_hour_in_which_it_came(client: Client) -> None:
    last = MONTH - HOUR
    write(client, row(last, 7, 70, month=202602), row(MONTH, 2, 20), row(MONTH, 8, 80, month=202602))
    assert series(client, *EVER) == [(last, "a=b", 7, 70), (MONTH, "a=b", 3, 30)]
    assert series(client, MONTH, MONTH + HOUR) == [(MONTH, "a=b", 3, 30)]


def test_pages_follow_one_another(client: Client) -> None:
    write(
        client,
        *(row(MONTH + hour * HOUR, hour + 1, hour + 1, label=f"a={name}") for hour in range(4) for name in "xyz"),
    )
    whole = label_series(client, "org_a", "hour", *EVER, rows_max=100)
    assert len(whole) == 12
    found, after = [], (0, "")
    while page := label_series(client, "org_a", "hour", *EVER, after=after, rows_max=5):
        found += page
        after = int(page[-1].at.timestamp()), page[-1].name
    assert found == whole


@pytest.mark.parametrize("seed", range(2))
def test_the_hours_of_a_label_add_up_to_its_ledgers_whatever_was_missed_in_between(client: Client, seed: int) -> None:
    draw = random.Random(seed)
    ledgers: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    written = []
    for hour in range(24 * 40):
        at = MONTH + hour * HOUR
        for label in ("a=x", "a=y", "…"):
            month = 202603 if hour < 31 * 24 + draw.randrange(24) else 202604
            ledger = ledgers[label, month]
            ledger[0] += draw.randrange(3)
            ledger[1] += draw.randrange(-2, 9)
            if draw.random() < 0.6:
                written.append(row(at, *ledger, label=label, month=month))
    end = MONTH + 24 * 40 * HOUR
    written += [row(end, *amounts, label=label, month=month) for (label, month), amounts in ledgers.items()]
    draw.shuffle(written)
    write(client, *written)
    intervals: tuple[LabelInterval, ...] = ("hour", "day")
    for interval in intervals:
        sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for _, label, requests, credits_micro in series(client, MONTH, end + HOUR, interval):
            sums[label][0] += requests
            sums[label][1] += credits_micro
        wanted: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for (label, _), amounts in ledgers.items():
            wanted[label] = [one + other for one, other in zip(wanted[label], amounts, strict=True)]
        assert sums == wanted
