"""``sluicegate tail``: what the workers say, as they say it."""

from enum import StrEnum
from typing import Annotated

import typer

from sluicegate_schemas.bounds import to_epoch_ms

from ..operator.logs import follow
from ..operator.tailed import READERS, TailedRecord
from .command import command
from .records import tailed
from .session import Session
from .values import when


class Tailed(StrEnum):
    """What can be followed."""

    DECISIONS = "decisions"
    ALERTS = "alerts"
    REJECTS = "rejects"
    TRAIL = "trail"


def add_to(app: typer.Typer) -> None:
    """Makes the command known."""
    command(app, "tail", prints=TailedRecord)(tail)


async def tail(
    session: Session,
    what: Tailed,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Begin there instead of now: 15m (ago), a date, an RFC 3339 time, or start."),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    follows: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for what is still to come.")] = True,
) -> None:
    """Show decisions, alerts, rejects or the audit trail, live; one line (with --json one object) a record."""
    topic, read = READERS[what.value]
    since_ms = None
    if since is not None:
        since_ms = 0 if since == "start" else to_epoch_ms(when("--from", since, session.now, unsigned=-1))
    left = count
    async for record in follow(session.brokers, session.topic(topic), since_ms, live=follows):
        shown, line = tailed(record, read)
        session.screen.record(shown, [line])
        if left is not None and (left := left - 1) == 0:
            return
