"""What a new owner does, and what one that lost its lease no longer does."""

import json
from collections.abc import Sequence

from sluicegate_schemas.state import OutboxRecord
from streams.engine.actions import Action, Append, Publish, RefreshAccounts
from streams.engine.core import PartitionCore
from streams.engine.limits import Limits
from streams.engine.machine import ForeignRecord, InputRecord, Outputs
from tests.faults.counting_machine import CountingMachine

STANDING = [OutboxRecord("decisions", 0, b"alpha", b"stood"), OutboxRecord("decisions", 0, b"beta", b"stood")]


class Heir(CountingMachine):
    """A machine whose rows say that two verdicts stand."""

    def resume(self, epoch: int, flush: int, log_time_ms: int) -> None:
        super().resume(epoch, flush, log_time_ms)
        self._outputs = Outputs(list(STANDING), [])


def owner(machine: CountingMachine, *, usage_end: int = 0, accounts_end: int = 0) -> tuple[PartitionCore, list[Action]]:
    """A core that has just recovered an empty state; what it published by then."""
    core = PartitionCore(0, machine, Limits())
    core.catalogue_seen(0.0)
    core.assigned(owner="heir", generation=1, nonce=1, wall_ms=0)
    core.state_read(0)
    core.appended(0, 0.0)
    return core, core.sources(usage=(0, usage_end), accounts=(0, accounts_end))


def usage(offset: int, account: str) -> InputRecord:
    """One envelope with one event."""
    envelope = {"producer": "p", "sequence": offset + 1, "account": account, "events": [["key", 1]]}
    return InputRecord(offset, 1_000 + offset, None, json.dumps(envelope).encode())


def command(offset: int, account: str) -> InputRecord:
    """The command that makes an account known."""
    return InputRecord(offset, 1, None, json.dumps({"account": account}).encode())


def published(actions: list[Action]) -> list[tuple[bytes | None, bool]]:
    """(account, whether it is an old verdict published again) of each decision."""
    return [
        (action.record.key, action.record.value == b"stood")
        for action in actions
        if isinstance(action, Publish) and action.record.topic == "decisions"
    ]


def flushes(actions: list[Action]) -> list[Append]:
    """Those that begin."""
    return [action for action in actions if isinstance(action, Append)]


def test_what_stands_is_published_at_once_where_nothing_was_left_to_read() -> None:
    _, actions = owner(Heir())
    assert published(actions) == [(b"alpha", True), (b"beta", True)]


def test_what_stands_waits_for_what_the_predecessor_had_read_and_gives_way_to_newer_verdicts() -> None:
    core, actions = owner(Heir(), usage_end=2, accounts_end=1)
    assert published(actions) == []
    core.tick(0.0, 10.0)
    assert published(core.accounts_fetched([command(0, "alpha")])) == []
    core.fetched([usage(0, "alpha")], 0)
    assert published(core.step(0.1)) == [(b"alpha", False)]
    core.fetched([usage(1, "alpha")], None)
    assert published(core.step(0.2)) == [(b"beta", True), (b"alpha", False)]


def test_what_is_fetched_and_not_applied_yet_holds_back_what_stands() -> None:
    core, _ = owner(Heir(), usage_end=1)
    core.tick(0.0, 10.0)
    core.fetched([usage(0, "alpha")], 0)
    assert published(core.said_by_others([])) == []
    core.accounts_fetched([command(0, "alpha")])
    assert published(core.step(0.1)) == [(b"beta", True), (b"alpha", False)]


class Sure(CountingMachine):
    """A machine that answers whoever said something else."""

    def say_again(self, records: Sequence[ForeignRecord]) -> None:
        self._outputs.early.extend(OutboxRecord(topic, 0, key, b"truth") for topic, key, _ in records)


def said(key: bytes) -> ForeignRecord:
    """A verdict of the last owner."""
    return "decisions", key, b"block"


def test_what_the_last_owner_said_is_judged_once_all_it_had_read_is_applied() -> None:
    core, _ = owner(Sure(), usage_end=2, accounts_end=1)
    core.tick(0.0, 10.0)
    assert published(core.said_by_others([said(b"alpha"), said(b"gone")])) == []
    core.accounts_fetched([command(0, "alpha")])
    core.fetched([usage(0, "alpha")], 0)
    assert published(core.step(0.1)) == [(b"alpha", False)], "its own verdict stands behind that one"
    core.fetched([usage(1, "beta")], None)
    core.accounts_fetched([command(1, "beta")])
    assert (b"gone", False) in published(core.step(0.2))
    assert published(core.said_by_others([])) == []


def test_a_header_moves_on_once_the_broker_has_what_contradicts_the_last_owner() -> None:
    core, _ = owner(Sure(), usage_end=1)
    publishing = core.publishing
    publishing.ask = lambda: [9, 9]
    assert publishing.outputs_next == [0, 0], "a log without a header is compared as a whole"
    core.tick(0.0, 10.0)
    assert published(core.said_by_others([said(b"gone")])) == []
    assert publishing.begin_flush() == [0, 0]
    core.accounts_fetched([command(0, "alpha")])
    core.fetched([usage(0, "alpha")], 0)
    actions = core.step(0.1)
    assert publishing.begin_flush() == [0, 0]
    for action in actions:
        if isinstance(action, Publish):
            core.published(action.token)
    assert publishing.begin_flush() == [9, 9]


def test_a_flush_waits_until_what_was_said_before_the_last_one_is_delivered() -> None:
    core, _ = owner(CountingMachine(), usage_end=1)
    core.tick(0.0, 60.0)
    core.accounts_fetched([command(0, "alpha")])
    core.fetched([usage(0, "alpha")], 0)
    said = core.step(0.1)
    assert (len(published(said)), len(flushes(said))) == (1, 1)
    core.appended(1, 0.2)
    core.fetched([usage(1, "alpha")], None)
    later = core.step(5.0)
    assert (len(published(later)), flushes([*later, *core.tick(6.0, 60.0)])) == (1, [])
    for action in said:
        if isinstance(action, Publish):
            core.published(action.token)
    assert len(flushes(core.tick(6.1, 60.0))) == 1, "what was said since need not be there"


def test_an_owner_whose_lease_is_over_decides_nothing() -> None:
    core, _ = owner(CountingMachine(), usage_end=1, accounts_end=1)
    core.tick(0.0, 3.0)
    core.accounts_fetched([command(0, "alpha")])
    core.fetched([usage(0, "alpha")], 0)
    assert core.has_work(2.9)
    assert not core.has_work(3.1)
    assert core.step(3.1) == []


def test_commands_that_come_while_the_partition_is_given_back_are_asked_for_again() -> None:
    core, _ = owner(CountingMachine())
    core.tick(0.0, 10.0)
    core.drain()
    core.accounts_fetched([command(0, "alpha")])
    assert core.accounts_next == 0


def test_usage_is_not_rejected_for_commands_that_came_while_the_partition_was_given_back_and_returned() -> None:
    machine = CountingMachine()
    core, _ = owner(machine, usage_end=1, accounts_end=1)
    core.tick(0.0, 10.0)
    core.fetched([usage(0, "alpha")], 0)
    assert RefreshAccounts() in core.step(0.1)
    core.drain()
    core.accounts_fetched([command(0, "alpha")])  # not taken in …
    core.accounts_current()  # … so not all that stands is
    assert core.park()
    assert core.returned(core.state_end_known)
    core.fetched([usage(0, "alpha")], 0)
    core.tick(0.3, 10.0)
    assert core.step(0.4) == [RefreshAccounts()]
    core.accounts_fetched([command(0, "alpha")])
    core.accounts_current()
    core.step(0.5)
    assert machine.rows[b"ledger"][0] == 1
