"""The dispatcher's book over random histories: whatever is killed when, no alert is lost, and no bound is passed."""

from __future__ import annotations

import random
from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluicegate_schemas.deliveries import DELIVERY_RECORD, Delivery, replay_key
from tests.webhook_receiver import alert
from webhooks.book import Book, Limits, Pending, in_order
from webhooks.schedule import WINDOW_MS

ENDPOINTS = ("chat", "pager")
DELAYS_S = (5, 300)
NOW_MS = 1_769_860_800_000
WIDE = Limits(pending_max=10**6, pending_bytes_max=10**9, dead_max=10**6, delivered_max=10**6)
NARROW = Limits(pending_max=3, pending_bytes_max=600, dead_max=2, delivered_max=2)
ALERT = alert().model_dump_json()

Rows = dict[str, bytes]


def restored(rows: Rows, limits: Limits, *, now_ms: int = NOW_MS, configured: tuple[str, ...] = ENDPOINTS) -> Book:
    """A new dispatcher's book."""
    book = Book(limits)
    for key, value in rows.items():
        book.restore(key, value)
    book.restored(configured, now_ms)
    book.replay_asked(now_ms)
    return book


def known(book: Book) -> dict[str, tuple[object, ...]]:
    """What a book says of each endpoint; nothing where there is nothing to say."""
    return {
        name: (shelf.pending, shelf.pending_bytes, set(shelf.delivered), set(shelf.dead))
        for name, shelf in book.shelves.items()
        if shelf.pending or shelf.delivered or shelf.dead
    }


def write(rows: Rows, book: Book, count: int | None = None) -> None:
    """Brings ``count`` of the changes (all) to the topic, in their order."""
    for key, value in in_order(book.changes)[:count]:
        rows.pop(key, None)
        if value is not None:
            rows[key] = value
    if count is None:
        book.changes = {}


class Histories(RuleBasedStateMachine):
    """One dispatcher after another over one topic of rows, and one partition of alerts."""

    limits = WIDE

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.rows: Rows = {}
        self.now_ms = NOW_MS
        self.logged: list[str] = []
        self.random = random.Random(seed)
        self.book = restored({}, self.limits)

    @rule(count=st.integers(1, 4))
    def alerts_are_logged_and_taken_in(self, count: int) -> None:
        begin = self.book.positions.get(0, 0)
        self.logged += [f"alert-{len(self.logged) + number}:fired" for number in range(count)]
        for webhook_id in self.logged[begin:]:
            for endpoint in ENDPOINTS:
                self.book.take(endpoint, webhook_id, ALERT, alert_at_ms=self.now_ms, now_ms=self.now_ms)
        self.book.took(0, len(self.logged))

    @rule(count=st.integers(1, 3))
    def the_log_repeats_alerts(self, count: int) -> None:
        self.logged += self.logged[:count]

    @rule(ms=st.sampled_from([1, 5_000, 300_000, WINDOW_MS // 3]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    def _due(self) -> list[Pending]:
        return [one for one in self.book.pending() if one.next_attempt_ms <= self.now_ms]

    @precondition(lambda self: self._due())
    @rule(succeeds=st.booleans())
    def an_attempt_is_made(self, succeeds: bool) -> None:
        delivery = self.random.choice(self._due())
        if succeeds:
            self.book.delivered(delivery, 204, self.now_ms)
            return
        self.book.failed(
            delivery, "status", status=500, retry_after_s=0, delays_s=DELAYS_S, chance=0.5, now_ms=self.now_ms
        )

    @rule()
    def the_changes_are_written(self) -> None:
        write(self.rows, self.book)
        again = restored(dict(self.rows), self.limits, now_ms=self.now_ms)
        assert known(again) == known(self.book)
        assert again.positions == self.book.positions
        assert not again.changes

    @rule(part=st.floats(0, 1))
    def it_is_killed_while_it_writes(self, part: float) -> None:
        write(self.rows, self.book, round(part * len(self.book.changes)))
        self.book = restored(dict(self.rows), self.limits, now_ms=self.now_ms)

    @rule()
    def a_dead_letter_is_replayed(self) -> None:
        write(self.rows, self.book)
        letters = [record for value in self.rows.values() if is_dead(record := DELIVERY_RECORD.validate_json(value))]
        if letters:
            letter = self.random.choice(letters)
            assert isinstance(letter, Delivery)
            key = replay_key(letter.endpoint, letter.webhook_id)
            self.rows[key] = letter.model_dump_json().encode()
            self.book.restore(key, self.rows[key])
            self.book.replay_asked(self.now_ms)
            assert self.book.shelf(letter.endpoint).pending[letter.webhook_id].attempts == 0

    @invariant()
    def every_alert_behind_the_position_is_known(self) -> None:
        if self.limits is WIDE:
            for endpoint in ENDPOINTS:
                shelf = self.book.shelf(endpoint)
                assert all(webhook_id in shelf for webhook_id in self.logged[: self.book.positions.get(0, 0)])

    @invariant()
    def a_delivery_is_in_one_state_and_is_tried_for_its_day_alone(self) -> None:
        for shelf in self.book.shelves.values():
            states = [*shelf.pending, *shelf.delivered, *shelf.dead]
            assert len(states) == len(set(states))
            assert shelf.pending_bytes == sum(len(one.alert.encode()) for one in shelf.pending.values())
            assert all(one.next_attempt_ms <= one.taken_at_ms + WINDOW_MS for one in shelf.pending.values())

    @invariant()
    def no_bound_is_passed(self) -> None:
        for shelf in self.book.shelves.values():
            assert len(shelf.pending) <= self.limits.pending_max
            assert shelf.pending_bytes <= self.limits.pending_bytes_max
            assert len(shelf.dead) <= self.limits.dead_max
            assert len(shelf.delivered) <= self.limits.delivered_max


class NarrowHistories(Histories):
    """The same, with room for a few."""

    limits = NARROW


def is_dead(record: object) -> bool:
    return isinstance(record, Delivery) and record.state == "dead"


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=30)
TestNarrowHistories = NarrowHistories.TestCase
TestNarrowHistories.settings = settings(max_examples=25, stateful_step_count=30)


def taken(count: int, limits: Limits = WIDE, *, endpoint: str = "pager") -> Book:
    """A book that has taken in so many alerts."""
    book = restored({}, limits)
    for number in range(count):
        book.take(endpoint, f"alert-{number}:fired", ALERT, alert_at_ms=NOW_MS, now_ms=NOW_MS + number)
    return book


def test_what_overflows_is_the_oldest_and_becomes_a_dead_letter() -> None:
    book = taken(5, Limits(pending_max=3))
    assert list(book.shelf("pager").pending) == ["alert-2:fired", "alert-3:fired", "alert-4:fired"]
    assert list(book.shelf("pager").dead) == ["alert-0:fired", "alert-1:fired"]
    assert book.deaths == {"overflow": 2}
    assert len(taken(5, Limits(pending_bytes_max=2 * len(ALERT))).shelf("pager").pending) == 2


def test_one_endpoints_overflow_takes_nothing_from_another() -> None:
    book = taken(5, Limits(pending_max=3, dead_max=1))
    book.take("chat", "alert-0:fired", ALERT, alert_at_ms=NOW_MS, now_ms=NOW_MS)
    assert list(book.shelf("chat").pending) == ["alert-0:fired"]
    assert book.forgotten == 1


def test_an_alert_of_two_days_ago_is_a_dead_letter_that_can_still_be_replayed() -> None:
    book = restored({}, WIDE)
    book.take("pager", "old:fired", ALERT, alert_at_ms=NOW_MS - 2 * WINDOW_MS, now_ms=NOW_MS)
    assert not list(book.pending())
    assert book.deaths == {"too_old": 1}
    [record] = [DELIVERY_RECORD.validate_json(value or b"") for value in book.changes.values()]
    assert isinstance(record, Delivery)
    assert (record.state, record.failure, record.alert, record.attempts) == ("dead", "too_old", ALERT, 0)


def test_an_endpoint_that_answers_410_is_not_asked_again() -> None:
    book = taken(1)
    [delivery] = book.pending()
    book.failed(delivery, "gone", status=410, retry_after_s=0, delays_s=DELAYS_S, chance=0, now_ms=NOW_MS)
    assert list(book.shelf("pager").dead) == ["alert-0:fired"]


def test_an_endpoint_that_is_configured_no_more_leaves_dead_letters_and_its_return_finds_them() -> None:
    book, rows = taken(2), Rows()
    write(rows, book)
    without = restored(rows, WIDE, configured=("chat",))
    assert without.deaths == {"endpoint_removed": 2}
    write(rows, without)
    again = restored(rows, WIDE)
    assert list(again.shelf("pager").dead) == ["alert-0:fired", "alert-1:fired"]


def test_endpoints_that_were_removed_are_remembered_up_to_a_number() -> None:
    book, rows = Book(WIDE), Rows()
    for number in range(5):
        book.take(f"old_{number}", "alert:fired", ALERT, alert_at_ms=NOW_MS, now_ms=NOW_MS)
    write(rows, book)
    without = restored(rows, Limits(removed_endpoints_max=3))
    assert set(without.shelves) == {"old_2", "old_3", "old_4"}
    assert without.forgotten == 2
    write(rows, without)
    assert set(restored(rows, WIDE).shelves) == {"old_2", "old_3", "old_4"}


def test_a_delivery_that_had_to_make_room_while_its_attempt_was_under_way_counts_as_delivered() -> None:
    book = taken(1, Limits(pending_max=1))
    [delivery] = book.pending()
    book.take("pager", "alert-1:fired", ALERT, alert_at_ms=NOW_MS, now_ms=NOW_MS)
    book.delivered(delivery, 200, NOW_MS)
    shelf = book.shelf("pager")
    assert (list(shelf.delivered), list(shelf.dead)) == (["alert-0:fired"], [])
    book.failed(delivery, "timeout", status=None, retry_after_s=0, delays_s=DELAYS_S, chance=0, now_ms=NOW_MS)
    assert (list(shelf.delivered), list(shelf.dead)) == (["alert-0:fired"], [])


@given(st.dictionaries(st.text(max_size=40), st.binary(max_size=60) | st.just(b'{"kind":"claim"}')))
def test_rows_that_nobody_can_read_are_passed_over(rows: dict[str, bytes]) -> None:
    before = taken(2)
    after = deepcopy(before)
    for key, value in rows.items():
        after.restore(key, value)
    assert known(after) == known(before)
