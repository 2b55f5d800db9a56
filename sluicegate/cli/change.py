"""Makes a function a command that changes something: it returns an operator command's fields; this sends them, waits
until the worker obeyed or refused, and says so."""

import inspect
import secrets
from collections.abc import Awaitable, Callable
from inspect import Parameter
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import typer

from sluicegate_schemas.bounds import EVENT_ID_PATTERN, full_match

from ..errors import ConfigurationError
from ..operator.commands import Fields, Outcome, as_command, outcome_of
from ..operator.send import WAIT_S_DEFAULT, send
from ..operator.submit import ATTEMPTS_MAX, is_conflict
from .command import command, options, with_signature
from .exits import CommandError, Exit
from .session import Session

_COMMAND_ID: Final = full_match(EVENT_ID_PATTERN)
Change = TypeVar("Change", bound=Callable[..., Awaitable[Fields]])
By = Annotated[str | None, typer.Option(help="Who acts; default SLUICEGATE_OPERATOR, else the login name.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail.")]
Wait = Annotated[float, typer.Option(min=0, max=3_600, help="Seconds to wait for the worker; 0: only send.")]
_CommandId = Annotated[str | None, typer.Option(help="Of an earlier try: it acts once; default a new one.")]
CHANGE: Final = options(by=(By, None), reason=(Reason, ""), command_id=(_CommandId, None), wait=(Wait, WAIT_S_DEFAULT))


class Sender(NamedTuple):
    """How commands of one run are sent; see ``CHANGE``."""

    by: str | None
    reason: str
    command_id: str | None
    wait: float

    async def send(self, session: Session, fields: Fields) -> Outcome:
        """Sends the command with these fields; returns what became of it where it acted or nobody waited.

        Raises ConfigurationError for fields that make no command, CommandError where it was refused or not answered.
        """
        if self.command_id is not None and not _COMMAND_ID.match(self.command_id):
            raise ConfigurationError("--command-id must be 1 to 128 letters, digits and ._:/+=@#~-")
        shared = {
            "command_id": self.command_id or f"cli-{secrets.token_hex(16)}",
            "issued_at": session.now,
            "issued_by": session.operator(self.by),
            "reason": self.reason,
        }
        made = as_command({**shared, **fields})
        sent = await send(
            session.brokers,
            made,
            topic_prefix=session.topic_prefix,
            wait_s=self.wait,
            may_be_known=self.command_id is not None,
        )
        if is_conflict(outcome_of(made, sent)):
            raise CommandError(
                f"others changed {made.about} at the same moment, and nothing of this was changed: repeat it",
                Exit.CONFLICT,
            )
        if sent.reject is not None:
            field = f"{sent.reject.field}: " if sent.reject.field else ""
            raise CommandError(f"refused: {field}{sent.reject.detail}", Exit.REFUSED)
        if sent.outcome == "unconfirmed":
            raise CommandError(
                f"the command was sent, but no worker answered within {self.wait:g} s: repeat it with "
                f"--command-id {made.command_id} (it acts once); sluicegate doctor says whether workers run",
                Exit.UNCONFIRMED,
            )
        return outcome_of(made, sent)

    async def send_made(self, session: Session, make: Callable[[], Awaitable[Fields]]) -> Outcome:
        """Sends the command that ``make`` gives of what is there; makes it again where others changed that meanwhile,
        ``ATTEMPTS_MAX`` times. Raises as ``send``, and what ``make`` raises."""
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return await self.send(session, await make())
            except CommandError as error:
                if error.exit_code != Exit.CONFLICT:
                    raise
        return await self.send(session, await make())


def say(session: Session, one: Outcome) -> None:
    """The outcome for people, or as JSON."""
    about = one.trail.subject if one.trail is not None else one.organization_id
    known = " (an earlier try)" if one.was_known else ""
    session.screen.record(one, [f"{one.outcome}{known}: {one.command} {about} of {one.account_id}, {one.command_id}"])


def change(app: typer.Typer, name: str) -> Callable[[Change], Change]:
    """Registers a function from the session and its options to a command's fields as a command of ``app``."""

    def register(function: Change) -> Change:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())

        async def run(session: Session, **given: Any) -> None:
            sender = Sender(**{option.name: given.pop(option.name) for option in CHANGE})
            say(session, await sender.send_made(session, lambda: function(session, **given)))

        first = Parameter("session", Parameter.POSITIONAL_OR_KEYWORD, annotation=Session)
        with_signature(run, function, [first, *own[1:], *CHANGE])
        command(app, name, prints=Outcome)(run)
        return function

    return register
