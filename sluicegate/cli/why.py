"""``sluicegate why``: a decision explained, from its id to the event that caused it and what came before."""

from collections.abc import Iterator
from typing import Annotated

import typer

from sluicegate_schemas.bounds import EVENT_ID_PATTERN, full_match

from ..errors import ConfigurationError
from ..operator.events import SeenEvent
from ..operator.explain import Explanation, explain
from .command import command
from .decisions import find_decision
from .session import Session
from .text import amount, time_text

_ID = full_match(EVENT_ID_PATTERN)


def add_to(app: typer.Typer) -> None:
    """Makes the command known."""
    command(app, "why", prints=Explanation)(why)


async def why(
    session: Session,
    decision_id: Annotated[str, typer.Argument(help="As answers, alerts and `tail decisions` name it.")],
    last: Annotated[int, typer.Option(min=0, max=1_000, help="How many events before it to show.")] = 10,
) -> None:
    """Explain a decision: the limit, the plan version, the numbers, the event that caused it and the last before it."""
    if not _ID.match(decision_id):
        raise ConfigurationError("a decision's id has 1 to 128 letters, digits and ._:/+=@#~-")
    found = await find_decision(session, decision_id)
    explanation = await explain(session, found, session.now, last=last)
    session.screen.record(explanation, lines(explanation))


def lines(one: Explanation) -> Iterator[str]:
    """The explanation for people."""
    decision = one.decision
    observed, limit = amount(decision.limit_name, decision.observed), amount(decision.limit_name, decision.limit)
    yield f"decision   {decision.decision_id}"
    force = "in force" if one.stands else "not in force any more"
    yield f"verdict    {decision.verdict} {decision.scope.text()}, {force}"
    yield f"limit      {decision.limit_name}: {observed} observed, {limit} allowed"
    yield f"plan       {decision.tier}, catalogue version {decision.plan_version}"
    yield f"decided    {time_text(decision.decided_at)}, until {time_text(decision.until)}"
    if decision.cause is not None:
        position = decision.cause.position
        place = f"{position.topic}/{position.partition}/{position.offset}/{position.index}"
        yield f"cause      {decision.cause.event_id} at {place}, logged {time_text(decision.cause.logged_at)}"
    if one.event is not None:
        yield f"           {_event(one.event)}"
    if one.command is not None:
        yield f"command    {one.command.command} by {one.command.issued_by} at {time_text(one.command.applied_at)}"
    if one.before:
        yield f"before it  the last {len(one.before)} of {decision.scope.text()}"
        for event in one.before:
            yield f"           {_event(event)}"
    for note in one.notes:
        yield f"note       {note}"


def _event(seen: SeenEvent) -> str:
    event = seen.event
    units = [f"{name} {value}" for name, value in event.quantities.model_dump(exclude_none=True).items()]
    charges = [f"+ {charge.operation}" for charge in event.charges]
    words = [time_text(event.ts), event.operation, str(event.status), *units, *charges, event.api_key_id or "storage"]
    return " ".join([*words, *(["cached"] if event.cached else []), event.id])
