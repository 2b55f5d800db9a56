"""The watcher knows when the workers are done: all applied, what follows from it sent, balances as the ledgers say."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from sluicegate_schemas import topics
from sluicegate_schemas.envelope import ENCODE, ENVELOPE_VERSION, TICK, WireEnvelope, WireEvent
from sluicegate_schemas.outputs import Balance, Position, Sequence
from sluicegate_schemas.state import HEADER_KEY, Header, OutboxRecord
from stack.freshness import Freshness
from stack.watch import BALANCES_REST_S, Watcher

EPOCH = 1 << 32
NOW_MS = 1_780_000_000_000
EVENT = WireEvent(None, "org_a", "key_a", "search.knn", NOW_MS, NOW_MS, 0, 200)


class Topics:
    """Hands a watcher records as if they came from the topics."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.watcher = Watcher("nowhere:1", "", Freshness(0), clock=lambda: self.now_s)
        self._offsets: dict[str, int] = {}

    def take(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        offset = self._offsets[topic] = self._offsets.get(topic, -1) + 1
        record: Any = ConsumerRecord(topic, 0, offset, NOW_MS, 1, key, value, None, 0, 0, ())
        self.watcher.take(topic, 0, record, NOW_MS)

    def envelope(self, sequence: int = 1) -> None:
        self.take(
            topics.USAGE.name, None, ENCODE(WireEnvelope(ENVELOPE_VERSION, "p", 1, sequence, NOW_MS, None, [EVENT]))
        )

    def usage(self, value: bytes) -> None:
        self.take(topics.USAGE.name, None, value)

    def header(self, usage_offset: int, *outbox: OutboxRecord) -> None:
        self._state(HEADER_KEY, Header(1, usage_offset, -1, NOW_MS, 1, 0, 0, list(outbox)))

    def ledger(self, used_micro: int, requests: int, month: str = "2026-05") -> None:
        self._state(f"l|account|org_a|{month}".encode(), ["org_a", None, None, used_micro, [], requests, {}])

    def no_ledger(self, month: str) -> None:
        header = ("e", EPOCH.to_bytes(8, "big"))
        record: Any = ConsumerRecord(
            "state", 0, 0, NOW_MS, 1, f"l|account|org_a|{month}".encode(), None, None, 0, 0, (header,)
        )
        self.watcher.take("state", 0, record, NOW_MS)

    def _state(self, key: bytes, row: object) -> None:
        self.take(topics.STATE.name, key, EPOCH.to_bytes(8, "big") + ENCODE(row))

    def balance(self, used_micro: int, requests: int, counter: int = 1, month: str = "2026-05") -> None:
        balance = Balance(
            kind="account",
            id="org_a",
            account_id="org_a",
            organization_id=None,
            month=month,
            total_micro=None,
            used_micro=used_micro,
            breakdown_micro={"search": used_micro} if used_micro else {},
            requests=requests,
            as_of=datetime(2026, 5, 1, tzinfo=UTC),
            source=Position(topic="usage", partition=0, offset=0),
            sequence=Sequence(epoch=1, counter=counter),
        )
        self.take(topics.BALANCES.name, b"any", balance.model_dump_json().encode())


@pytest.fixture
def seen() -> Topics:
    return Topics()


def test_what_was_rejected_last_is_waited_for_like_any_event(seen: Topics) -> None:
    seen.envelope()
    seen.header(0)
    assert seen.watcher.applied({0: 1})
    seen.usage(b"credits please")
    assert not seen.watcher.applied({0: 2})
    reject = OutboxRecord(topics.REJECTS.name, -1, None, b"{}")
    seen.header(1, reject)
    assert not seen.watcher.applied({0: 2}), "its reject may still be unsent"
    seen.header(1)
    assert seen.watcher.applied({0: 2})
    assert seen.watcher.sight().lag_events == 0


def test_a_tick_and_an_empty_partition_need_not_be_applied(seen: Topics) -> None:
    seen.usage(TICK)
    assert seen.watcher.applied({0: 1, 1: 0})
    assert not seen.watcher.applied({0: 2}), "a record that was not even seen"


def test_a_repeated_or_rejected_last_event_changes_no_balance_and_is_not_waited_for(seen: Topics) -> None:
    seen.envelope()
    seen.ledger(100_000, 1)
    seen.header(0)
    seen.balance(100_000, 1)
    assert seen.watcher.published()
    seen.envelope()
    seen.usage(json.dumps({"id": "bad"}).encode())
    seen.header(2)
    assert seen.watcher.applied({0: 3})
    assert seen.watcher.published()


@pytest.mark.parametrize("stale", [(100_000, 1), (200_000, 1), (100_000, 2)])
def test_balances_are_waited_for_until_they_say_what_the_ledgers_do(seen: Topics, stale: tuple[int, int]) -> None:
    seen.ledger(200_000, 2)
    assert not seen.watcher.published()
    seen.balance(*stale, counter=2)
    assert not seen.watcher.published()
    seen.balance(200_000, 2, counter=1)
    assert not seen.watcher.published(), "an older balance that comes late"
    seen.balance(200_000, 2, counter=3)
    assert seen.watcher.published()


def test_a_ledger_that_was_never_charged_and_one_that_is_gone_need_no_balance(seen: Topics) -> None:
    seen.ledger(0, 0)
    assert seen.watcher.published()
    seen.ledger(5, 1, month="2026-01")
    assert not seen.watcher.published()
    seen.no_ledger("2026-01")
    assert seen.watcher.published()


def test_balances_that_never_agree_are_left_to_the_check_once_nothing_moves(seen: Topics) -> None:
    seen.ledger(200_000, 2)
    seen.now_s = BALANCES_REST_S - 1
    assert not seen.watcher.published()
    seen.balance(100_000, 1)
    seen.now_s = BALANCES_REST_S + 1
    assert not seen.watcher.published(), "something moved since"
    seen.now_s = 2 * BALANCES_REST_S
    assert seen.watcher.published()
