"""Submits a command under an id of the caller's, so that a repeat gets the first one's answer and never acts again.

The id belongs to one command of its account for ever. Which command that is, the log decides, not this process: a
repeat is held against the record that stands there, and of two that race the worker refuses the later. So any number
of processes may take the same requests.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sluicegate_schemas.accounts import AnyCommand

from ..errors import SluicegateError
from .commands import Outcome, outcome_of
from .earlier import Earlier, find_command
from .send import Sent, answer_of, send
from .system import System

LOOK_BACK: Final = timedelta(days=7)
"""How far back a repeat is looked for before it is sent. An older one is sent, and the worker, which remembers, refuses
it: then all of the log is looked through."""


class OtherCommandError(SluicegateError):
    """The id is that of another command: nothing was changed."""


class Origin(NamedTuple):
    """What a command is made from beside the request: the same request makes the same command of the same origin.

    ``earlier`` is the command that the id had before, None where it is new; ``issued_at`` is that one's, or now.
    """

    issued_at: datetime
    earlier: Earlier | None


Make = Callable[[Origin], Awaitable[AnyCommand]]


async def submit(
    system: System, make: Make, *, account_id: str, command_id: str, now: datetime, wait_s: float
) -> tuple[AnyCommand, Outcome]:
    """Sends what ``make`` gives, or finds that it was sent before, and waits up to ``wait_s`` seconds for the answer.

    Raises OtherCommandError, what ``make`` raises, TopicsMissingError, and KafkaError where the broker fails: then
    submit it again, it acts once.
    """
    earlier = await find_command(system, account_id, command_id, since=now - LOOK_BACK)
    if earlier is None:
        command = await make(Origin(now, None))
        sent = await send(system.brokers, command, topic_prefix=system.topic_prefix, wait_s=wait_s)
        if not _id_was_used(sent):
            return command, outcome_of(command, sent)
        earlier = await find_command(system, account_id, command_id)
        if earlier is None or earlier.position == sent.position:
            return command, outcome_of(command, sent)
    if await make(Origin(earlier.command.issued_at, earlier)) != earlier.command:
        raise OtherCommandError("that id is another command's")
    return earlier.command, await outcome_so_far(system, earlier, wait_s=wait_s)


async def outcome_so_far(system: System, earlier: Earlier, *, wait_s: float = 0) -> Outcome:
    """What became of a command that was sent before. Raises TopicsMissingError and KafkaError."""
    sent = await answer_of(system, earlier.command, earlier.position, earlier.logged_at_ms, wait_s=wait_s)
    return outcome_of(earlier.command, sent)


def _id_was_used(sent: Sent) -> bool:
    """Whether the worker refused it for its id, or obeyed another command of that id meanwhile."""
    if sent.trail is not None:
        return sent.trail.source != sent.position
    return sent.reject is not None and sent.reject.field == "command_id"
