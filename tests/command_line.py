"""The command line in tests: run in this process, with a worker that answers as it is told."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import CliRunner, Result

from sluicegate.cli.app import app
from sluicegate.operator.send import Sent
from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.outputs import OrganizationEntitlement, Position, Reject, RejectReason, Sequence, TrailEntry
from tests.gating import NOW

SEQUENCE = Sequence(epoch=1, counter=1)
HERON = OrganizationEntitlement(
    organization_id="org_heron",
    account_id="org_heron",
    tier="pro",
    credits_micro_per_month=None,
    rates=None,
    sequence=SEQUENCE,
)
MEMBER = HERON.model_copy(update={"organization_id": "org_member"})
ESCAPE = "\x1b[31m"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


class Worker:
    """Stands for Kafka and a worker: takes commands, and answers them as ``answer`` says."""

    def __init__(self) -> None:
        self.commands: list[AnyCommand] = []
        self.answer: Callable[[AnyCommand], Sent] = applied

    async def send(self, _: object, command: AnyCommand, **__: object) -> Sent:
        self.commands.append(command)
        return self.answer(command)


def applied(command: AnyCommand) -> Sent:
    position = Position(topic="accounts", partition=0, offset=7)
    entry = TrailEntry(
        command_id=command.command_id,
        command=command.kind,
        account_id=command.account_id,
        organization_id=command.about,
        subject="subject",
        issued_by=command.issued_by,
        issued_at=command.issued_at,
        reason=command.reason,
        before=None,
        after={},
        applied_at=NOW,
        source=position,
    )
    return Sent("applied", position, trail=entry)


def refused(command: AnyCommand) -> Sent:
    position = Position(topic="accounts", partition=0, offset=7)
    reject = reject_with("is \x1b[2J no \u202e grant", field="grant_id")
    return Sent("refused", position, reject=reject)


def reject_with(detail: str, field: str | None = None, reason: RejectReason = "command_refused") -> Reject:
    return Reject.model_construct(
        schema_version=1,
        id="accounts/0/7/0",
        reason=reason,
        field=field,
        detail=detail,
        source=Position(topic="accounts", partition=0, offset=7),
        event_id=None,
        organization_id=None,
        producer_id=None,
        size_bytes=1,
        sha256="0" * 64,
        rejected_at=NOW,
    )
