"""Submits a command under an id of the caller's, so that a repeat gets the first one's answer and never acts again.

The id belongs to one command of its account for ever. Which command that is, the log decides, not this process: a
repeat is held against the record that stands there, and of two that race the worker refuses the later. So any number
of processes may take the same requests.

What a worker refused for what it was made from (``conflict``) is no answer yet: it is made anew, of what is there now,
and sent again under its id. The worker remembers the ids of what acted alone, so one of the attempts acts at most.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from sluicegate_schemas.accounts import AnyCommand, OrganizationPut

from ..errors import SluicegateError
from .commands import Outcome, outcome_of
from .earlier import Earlier, find_command
from .send import CATCH_UP_S_MAX, Sent, answer_of, send
from .system import System

LOOK_BACK: Final = timedelta(days=7)
"""How far back a repeat is looked for before it is sent. An older one is sent, and the worker, which remembers, refuses
it: then all of the log is looked through."""

ATTEMPTS_MAX: Final = 10
"""How often a change is made in vain of what others change at the same moment."""


class OtherCommandError(SluicegateError):
    """The id is that of another command: nothing was changed."""


class Origin(NamedTuple):
    """What a command is made from beside the request: the same request makes the same command of the same origin.

    ``earlier`` is the command that the id had before, None where it is new; ``issued_at`` is that one's, or now.
    """

    issued_at: datetime
    earlier: Earlier | None


Make = Callable[[Origin], Awaitable[AnyCommand]]


class CommandLog(Protocol):
    """Where the commands of one account and id stand. All may raise TopicsMissingError and KafkaError."""

    async def find(self, *, since: datetime | None = None, wait_s: float = 0) -> Earlier | None:
        """See ``earlier.find_command``."""

    async def send(self, command: AnyCommand) -> Sent:
        """Sends a new one and waits for its answer."""

    async def outcome_of(self, earlier: Earlier) -> Outcome:
        """What became of one that was sent before, waited for as long."""


class KafkaCommandLog:
    """See ``CommandLog``; ``wait_s`` is how long an answer is waited for."""

    def __init__(self, system: System, *, account_id: str, command_id: str, wait_s: float) -> None:
        self._system = system
        self._names = account_id, command_id
        self._wait_s = wait_s

    async def find(self, *, since: datetime | None = None, wait_s: float = 0) -> Earlier | None:
        """See ``CommandLog``."""
        return await find_command(self._system, *self._names, since=since, wait_s=wait_s)

    async def send(self, command: AnyCommand) -> Sent:
        """See ``CommandLog``."""
        system = self._system
        return await send(system.brokers, command, topic_prefix=system.topic_prefix, wait_s=self._wait_s)

    async def outcome_of(self, earlier: Earlier) -> Outcome:
        """See ``CommandLog``."""
        return await outcome_so_far(self._system, earlier, wait_s=self._wait_s)


async def submit(log: CommandLog, make: Make, *, now: datetime, wait_s: float) -> tuple[AnyCommand, Outcome]:
    """Sends what ``make`` gives, or finds that it was sent before; returns what was sent and what became of it.

    In conflict with others it is made again, ``ATTEMPTS_MAX`` times in all and while ``wait_s`` are not over; then, and
    where it is made from the same again, the conflict is the outcome. Raises OtherCommandError, what ``make`` raises,
    TopicsMissingError, and KafkaError where the broker fails: then submit it again, it acts once.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    earlier = await log.find(since=now - LOOK_BACK)
    last = None if earlier is None else await _repeated(log, make, earlier)
    attempts = 0
    while last is None or is_conflict(last[1]):
        if attempts == ATTEMPTS_MAX or (attempts and loop.time() >= deadline):
            break
        attempts += 1
        command = await make(Origin(now, None))
        if last is not None and _base_of(command) == _base_of(last[0]):
            break
        sent = await log.send(command)
        last = command, outcome_of(command, sent)
        if _id_was_used(sent):
            earlier = await log.find(wait_s=CATCH_UP_S_MAX)
            if earlier is None or earlier.position == sent.position:
                break
            last = await _repeated(log, make, earlier)
    assert last is not None  # the first attempt is made or breaks off with what was found
    return last


def is_conflict(outcome: Outcome) -> bool:
    """Whether a worker refused it because another put is in force than the one that it was made from."""
    return outcome.reject is not None and outcome.reject.reason == "conflict"


async def _repeated(log: CommandLog, make: Make, earlier: Earlier) -> tuple[AnyCommand, Outcome]:
    """What became of what was sent before. Raises OtherCommandError where that is not what ``make`` gives."""
    if await make(Origin(earlier.command.issued_at, earlier)) != earlier.command:
        raise OtherCommandError("that id is another command's")
    return earlier.command, await log.outcome_of(earlier)


def _base_of(command: AnyCommand) -> int | None:
    return command.based_on if isinstance(command, OrganizationPut) else None


async def outcome_so_far(system: System, earlier: Earlier, *, wait_s: float = 0) -> Outcome:
    """What became of a command that was sent before. Raises TopicsMissingError and KafkaError."""
    sent = await answer_of(system, earlier.command, earlier.position, earlier.logged_at_ms, wait_s=wait_s)
    return outcome_of(earlier.command, sent)


def _id_was_used(sent: Sent) -> bool:
    """Whether the worker refused it for its id, or obeyed another command of that id meanwhile."""
    if sent.trail is not None:
        return sent.trail.source != sent.position
    return sent.reject is not None and sent.reject.field == "command_id"
