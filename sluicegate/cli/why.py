"""``sluicegate why``: a decision explained, from its id to the event that caused it and what came before."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from pydantic import ValidationError

from sluicegate_schemas.bounds import EVENT_ID_PATTERN, Record, full_match
from sluicegate_schemas.outputs import Decision, TrailEntry
from sluicegate_schemas.topics import TRAIL

from ..errors import ConfigurationError, TopicsMissingError
from .catalogues import published
from .command import command
from .decisions import find_decision
from .events import Background, SeenEvent, background, concerns
from .logs import read_all
from .session import Session
from .text import amount, time_text

_ID = full_match(EVENT_ID_PATTERN)


class Explanation(Record):
    """A decision and what led to it. ``stands``: it is in force now. ``command`` is the last operator's command on the
    organization before a decision that no event caused. ``notes`` say what is no longer there."""

    decision: Decision
    found: str
    stands: bool
    event: SeenEvent | None
    before: tuple[SeenEvent, ...]
    command: TrailEntry | None
    notes: tuple[str, ...]


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
    decision, notes = found.decision, list(found.notes)
    led = Background(None, [], [])
    entry: TrailEntry | None = None
    if decision.cause is None:
        entry = await _last_command(session, decision)
        notes.append("no event caused it: a command, a plan, the time or a takeover did")
    else:
        catalogue = (await published(session)).get(decision.plan_version)
        operations = {} if catalogue is None else catalogue.operations
        if catalogue is None and decision.scope.kind == "category":
            notes.append(f"plan version {decision.plan_version} is not on the catalog topic: no categories are known")
        led = await background(
            session,
            decision.cause.position,
            concerns(decision.scope, lambda name: operations[name].category if name in operations else None),
            count=last,
        )
        notes += led.notes
    explanation = Explanation(
        decision=decision,
        found=found.where,
        stands=not found.superseded and _in_force(decision, session.now),
        event=led.event,
        before=tuple(led.before),
        command=entry,
        notes=tuple(notes),
    )
    session.screen.record(explanation, lines(explanation))


def _in_force(decision: Decision, now: datetime) -> bool:
    return decision.verdict == "block" and (decision.until is None or decision.until > now)


async def _last_command(session: Session, decision: Decision) -> TrailEntry | None:
    newest: TrailEntry | None = None
    try:
        async for record in read_all(session.brokers, session.topic(TRAIL)):
            if record.value is None or decision.scope.id.encode() not in record.value:
                continue
            try:
                entry = TrailEntry.model_validate_json(record.value)
            except ValidationError:
                continue
            about = (entry.organization_id, entry.account_id, entry.subject)
            if decision.scope.id in about and entry.applied_at <= decision.decided_at:
                newest = entry if newest is None or newest.applied_at <= entry.applied_at else newest
    except TopicsMissingError:
        return None
    return newest


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
