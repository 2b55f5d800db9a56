"""A command's id is one command's: what is sent again, raced for or used for another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition

from sluicegate.operator.commands import Outcome, as_command, outcome_of
from sluicegate.operator.earlier import Earlier
from sluicegate.operator.logs import read_between
from sluicegate.operator.send import Sent
from sluicegate.operator.submit import LOOK_BACK, Make, Origin, OtherCommandError, submit
from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.outputs import Position
from tests.command_line import applied, reject_with
from tests.gating import NOW, NOW_MS

MINE, OTHERS = Position(topic="accounts", partition=0, offset=9), Position(topic="accounts", partition=0, offset=7)


def grant(micro: int) -> Make:
    async def make(origin: Origin) -> AnyCommand:
        return as_command(
            {
                "kind": "grant.put",
                "command_id": "c1",
                "issued_at": origin.issued_at,
                "issued_by": "ada",
                "account_id": "org_heron",
                "grant_id": "g1",
                "credits_micro": micro,
                "effective_at": origin.issued_at,
            }
        )

    return make


class Log:
    """Stands for Kafka and a worker: what stands there, since when, and what becomes of a further command."""

    def __init__(self) -> None:
        self.stands: AnyCommand | None = None
        self.age = timedelta(0)
        self.appended: list[AnyCommand] = []
        self.answer: Callable[[AnyCommand], Sent] = lambda command: applied(command)._replace(position=OTHERS)

    async def find(self, *, since: datetime | None = None, wait_s: float = 0) -> Earlier | None:
        is_seen = since is None or NOW - self.age >= since
        return Earlier(self.stands, OTHERS, NOW_MS) if self.stands is not None and is_seen else None

    async def send(self, command: AnyCommand) -> Sent:
        self.appended.append(command)
        return self.answer(command)

    async def outcome_of(self, earlier: Earlier) -> Outcome:
        return outcome_of(earlier.command, applied(earlier.command)._replace(was_known=True))

    async def submit(self, micro: int, later: timedelta = timedelta(0)) -> tuple[AnyCommand, Any]:
        return await submit(self, grant(micro), now=NOW + later, wait_s=1)


@pytest.fixture
def log() -> Log:
    return Log()


async def test_a_new_command_is_sent_once(log: Log) -> None:
    command, outcome = await log.submit(5)
    assert (log.appended, outcome.outcome, outcome.was_known) == ([command], "applied", False)


async def test_a_repeat_is_not_sent_and_gets_the_answer_of_the_first(log: Log) -> None:
    log.stands = await grant(5)(Origin(NOW, None))
    command, outcome = await log.submit(5, later=timedelta(hours=1))
    assert (log.appended, command, outcome.was_known) == ([], log.stands, True)


async def test_another_command_under_the_same_id_is_refused_unsent(log: Log) -> None:
    log.stands = await grant(5)(Origin(NOW, None))
    with pytest.raises(OtherCommandError):
        await log.submit(6)
    assert log.appended == []


def used(command: AnyCommand) -> Sent:
    """The worker remembers another of that id."""
    reject = reject_with("was the id of another command before", field="command_id")
    return Sent("refused", MINE, reject=reject)


def overtaken(command: AnyCommand) -> Sent:
    """The worker obeyed another of that id, which stands before this one."""
    return applied(command)._replace(position=MINE)


@pytest.mark.parametrize("answer", [used, overtaken])
@pytest.mark.parametrize("micro", [5, 6])
async def test_of_two_that_race_the_log_says_whose_the_id_is(
    answer: Callable[[AnyCommand], Sent], micro: int, log: Log
) -> None:
    first = await grant(5)(Origin(NOW - timedelta(seconds=1), None))

    def loses(command: AnyCommand) -> Sent:
        log.stands = first
        return answer(command)

    log.answer = loses
    if micro == 5:
        command, outcome = await log.submit(micro)
        assert (command, outcome.outcome) == (first, "applied")
    else:
        with pytest.raises(OtherCommandError):
            await log.submit(micro)


async def test_a_repeat_of_long_ago_is_found_where_the_worker_remembers_it(log: Log) -> None:
    log.stands = await grant(5)(Origin(NOW - LOOK_BACK * 2, None))
    log.age = LOOK_BACK * 2
    log.answer = used
    command, outcome = await log.submit(5)
    assert (command, outcome.was_known) == (log.stands, True)


async def test_a_refusal_for_another_reason_is_the_answer(log: Log) -> None:
    log.answer = lambda _: Sent("refused", MINE, reject=reject_with("is not there", field="grant_id"))
    _, outcome = await log.submit(5)
    assert outcome.reject is not None
    assert outcome.reject.field == "grant_id"


async def test_where_nothing_stands_the_broker_is_asked_for_nothing() -> None:
    """A consumer of no partition waits for its own time-out when it is stopped: 40 s for the first command of all."""

    class Consumer:
        def assign(self, _: object) -> None:
            raise AssertionError("there is nothing to be assigned")

    partition = TopicPartition("sluicegate.accounts", 0)
    read = [one async for one in read_between(Consumer(), {partition: 3}, {partition: 3})]  # type: ignore[arg-type]
    assert read == []
