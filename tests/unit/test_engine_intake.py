"""No usage record is skipped or taken twice on its way into the machine."""

import json
from collections import deque
from collections.abc import Sequence

from sluicegate_schemas.envelope import TICK
from streams.engine.intake import CHUNK_RECORDS_MAX, UsageIntake
from streams.engine.machine import InputRecord
from tests.faults.counting_machine import CountingMachine


def run(*offsets: int) -> Sequence[InputRecord]:
    body = {"producer": "p", "account": "a", "events": []}
    return [
        InputRecord(offset, offset, None, json.dumps({**body, "sequence": offset + 1}).encode()) for offset in offsets
    ]


def known() -> CountingMachine:
    machine = CountingMachine()
    machine.restore(b"a|a", b"[1]")
    return machine


def test_a_batch_that_leaves_a_hole_is_sought_and_ignored_until_then() -> None:
    intake = UsageIntake(10)
    assert intake.fetched(run(12, 13), None) == "seek"
    assert intake.fetched(run(14), None) == "ignored"
    intake.sought()
    assert intake.fetched(run(10, 11, 12), 10) == "taken"
    assert intake.next_offset == 13


def test_a_hole_after_a_seek_is_the_logs_own_if_the_log_still_begins_before_it() -> None:
    intake = UsageIntake(10)
    assert intake.fetched(run(12), 10) == "look"
    assert intake.fetched(run(13), None) == "taken"
    assert intake.log_starts(3)
    assert intake.next_offset == 14


def test_a_hole_that_retention_made_is_refused() -> None:
    intake = UsageIntake(10)
    assert intake.fetched(run(12), 10) == "look"
    assert not intake.log_starts(12)


def test_a_batch_read_after_a_lost_one_is_no_proof_of_a_hole() -> None:
    intake = UsageIntake(10)
    # The batch that followed the seek to 10 was read and never delivered; this one follows it.
    assert intake.fetched(run(20), None) == "seek"


def test_what_was_taken_before_is_not_taken_again() -> None:
    intake = UsageIntake(0)
    intake.fetched(run(0, 1, 2), 0)
    intake.fetched(run(1, 2, 3), None)
    machine = known()
    assert intake.apply(machine) == "done"
    assert machine.rows[b"ledger"][0] == 4
    assert (intake.applied, intake.pending_bytes, intake.is_empty) == (3, 0, True)


def test_a_chunk_ends_with_a_tick_at_which_time_passes() -> None:
    intake = UsageIntake(0)
    records = [*run(0, 1), InputRecord(2, 77, None, TICK), *run(3)]
    intake.fetched(records, 0)
    machine = known()
    intake.apply(machine)
    assert (intake.applied, machine.advanced_to) == (2, [77])


def test_a_chunk_is_bounded() -> None:
    intake = UsageIntake(0)
    intake.fetched(run(*range(CHUNK_RECORDS_MAX + 5)), 0)
    intake.apply(known())
    assert intake.applied == CHUNK_RECORDS_MAX - 1


def test_a_record_of_an_unknown_account_waits_until_the_accounts_are_current() -> None:
    intake, machine = UsageIntake(0), CountingMachine()
    intake.fetched(run(0, 1), 0)
    assert intake.apply(machine) == "needs accounts"
    mark = intake.accounts_current_as_of_now()
    intake.fetched(run(2), None)
    intake.accounts_current(mark)
    assert intake.apply(machine) == "done"
    assert (intake.applied, machine.rows[b"ledger"][4]) == (1, 2)
    assert intake.apply(machine) == "needs accounts"


def test_the_oldest_time_may_be_asked_while_another_thread_applies_the_last_record() -> None:
    class EmptiedMeanwhile(deque[InputRecord]):
        def __bool__(self) -> bool:
            return True

    intake = UsageIntake(0)
    intake._pending = EmptiedMeanwhile()
    assert intake.oldest_log_time_ms is None
