"""The audit trail: what each command changed, who asked for it, when and why (requirements, section 1)."""

from dataclasses import dataclass
from typing import Any

from sluicegate_schemas import topics
from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import Position, TrailEntry


@dataclass(frozen=True, slots=True)
class Change:
    """What a command changed: ``subject`` by its id; a row before and after, None for none, never a secret."""

    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def trail_entry(command: AnyCommand, change: Change, partition: int, offset: int, applied_at_ms: int) -> TrailEntry:
    """The entry of a command that acted; it stands at ``offset`` of the partition's accounts topic."""
    return TrailEntry(
        command_id=command.command_id,
        command=command.kind,
        account_id=command.account_id,
        organization_id=getattr(command, "organization_id", None),
        subject=change.subject,
        issued_by=command.issued_by,
        issued_at=command.issued_at,
        reason=command.reason,
        before=change.before,
        after=change.after,
        applied_at=from_epoch_ms(applied_at_ms),
        source=Position(topic=topics.ACCOUNTS.name, partition=partition, offset=offset),
    )
