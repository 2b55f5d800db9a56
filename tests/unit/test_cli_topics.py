"""What the command line shows of topics, and what of them never reaches a terminal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest

from sluicegate.cli import tail
from sluicegate.cli.exits import Exit
from sluicegate.operator import balances
from sluicegate_schemas.outputs import Balance, Position, Sequence
from tests.command_line import ESCAPE, reject_with, run
from tests.gating import NOW

# ---- usage ----


class Record:
    """One record of a topic."""

    def __init__(self, key: str, value: bytes | None, offset: int = 0, topic: str = "t") -> None:
        self.key, self.value, self.offset, self.topic = key.encode(), value, offset, topic
        self.partition, self.timestamp = 0, 1_700_000_000_000


def balance(counter: int, used: int) -> Balance:
    return Balance(
        kind="account",
        id="org_heron",
        account_id="org_heron",
        organization_id=None,
        month="2026-01",
        total_micro=1_000_000,
        used_micro=used,
        breakdown_micro={"search": used},
        requests=3,
        as_of=NOW,
        source=Position(topic="usage", partition=0, offset=1),
        sequence=Sequence(epoch=1, counter=counter),
    )


def reads(*records: Record) -> Callable[..., AsyncIterator[Record]]:
    async def read(*_: object, **__: object) -> AsyncIterator[Record]:
        for record in records:
            yield record

    return read


def test_usage_shows_the_newest_balance_of_each_month(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "account:org_heron:2026-01"
    records = [Record(key, balance(counter, used).model_dump_json().encode()) for counter, used in ((2, 30), (1, 20))]
    monkeypatch.setattr(balances, "read_all", reads(*records, Record("account:org_heronx:2026-01", b"{}")))
    result = run("usage", "org_heron", "--json")
    assert [one["used_micro"] for one in json.loads(result.stdout)] == [30]
    assert "0.00003 " in run("usage", "org_heron").stdout
    assert run("usage", "org_heron", "--month", "2026-02").exit_code == Exit.NOT_FOUND


# ---- what topics hold never acts on the terminal ----

HOSTILE = f"{ESCAPE}\x07\x9b2J\u202edesrever\u2066\u2028\x7f end"


def test_what_a_topic_holds_reaches_neither_terminal_nor_json_as_a_control_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hostile = reject_with(HOSTILE.replace("\x1b", "").replace("\x07", "").replace("\x7f", ""))
    records = [Record("", hostile.model_dump_json().encode()), Record("", HOSTILE.encode()), Record("", None)]
    monkeypatch.setattr(tail, "follow", reads(*records))
    for options in ((), ("--json",)):
        result = run("tail", "rejects", "--no-follow", *options)
        assert result.exit_code == 0, result.output
        assert all(sign.isprintable() or sign == "\n" for sign in result.stdout), ascii(result.stdout)
        assert len(result.stdout.splitlines()) == 3
    readable = [json.loads(line)["readable"] for line in result.stdout.splitlines()]
    assert readable == [True, False, True]


def test_tail_ends_after_as_many_as_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "follow", reads(*[Record("", None)] * 5))
    assert len(run("tail", "alerts", "--count", "2").stdout.splitlines()) == 2
