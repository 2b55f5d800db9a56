"""Explains a decision: from what it says to the event or command that caused it and what came before."""

from datetime import datetime

from pydantic import ValidationError

from sluicegate_schemas.bounds import Record
from sluicegate_schemas.outputs import Decision, TrailEntry
from sluicegate_schemas.topics import TRAIL

from ..errors import TopicsMissingError
from .catalogues import published
from .decisions import Found
from .events import Background, SeenEvent, background, concerns
from .logs import read_all
from .system import System


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


async def explain(system: System, found: Found, now: datetime, *, last: int) -> Explanation:
    """What led to the decision, with the ``last`` events of its scope before it. Raises KafkaError."""
    decision, notes = found.decision, list(found.notes)
    led = Background(None, [], [])
    entry: TrailEntry | None = None
    if decision.cause is None:
        entry = await _last_command(system, decision)
        notes.append("no event caused it: a command, a plan, the time or a takeover did")
    else:
        catalogue = (await published(system)).get(decision.plan_version)
        operations = {} if catalogue is None else catalogue.operations
        if catalogue is None and decision.scope.kind == "category":
            notes.append(f"plan version {decision.plan_version} is not on the catalog topic: no categories are known")
        led = await background(
            system,
            decision.cause.position,
            concerns(decision.scope, lambda name: operations[name].category if name in operations else None),
            count=last,
        )
        notes += led.notes
    return Explanation(
        decision=decision,
        found=found.where,
        stands=not found.superseded and _in_force(decision, now),
        event=led.event,
        before=tuple(led.before),
        command=entry,
        notes=tuple(notes),
    )


def _in_force(decision: Decision, now: datetime) -> bool:
    return decision.verdict == "block" and (decision.until is None or decision.until > now)


async def _last_command(system: System, decision: Decision) -> TrailEntry | None:
    newest: TrailEntry | None = None
    try:
        async for record in read_all(system.brokers, system.topic(TRAIL)):
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
