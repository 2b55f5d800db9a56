"""Operator commands: each carried out once, with all that follows from it, and put on the audit trail."""

from typing import Final

from sluicegate_schemas.accounts import AnyCommand, KeyPut, KeyRevoke, OrganizationPut
from sluicegate_schemas.partitioning import partition_of

from .accounts import Accounts
from .command_record import RefusedError, decode_command
from .dedup import digest_of
from .outputs import Outbox, RecordOrigin
from .participants import Participants
from .plan_changes import PlanChanges
from .policy import Moment
from .route_table import RouteTable
from .settings import DomainSettings
from .tables import ChangedRows, CommandRow
from .trail import Change, trail_entry

_CAME_LATER: Final = frozenset(
    {
        "shares",
        "concurrency",
        "quotas",
        "objects_per_batch",
        "features",
        "credits_mode",
        "failure_modes",
        "pool",
        "based_on",
        "scopes",
    }
)
"""Fields that ``organization.put`` and ``key.put`` got after digests of them were first kept."""


class Commands:
    """Remembers which commands acted. One that came before changes nothing; one that can't be obeyed is rejected."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        settings: DomainSettings,
        changed: ChangedRows,
        outbox: Outbox,
        accounts: Accounts,
        routes: RouteTable,
        changes: PlanChanges,
        participants: Participants,
    ) -> None:
        self._partition: Final = partition
        self._partitions: Final = partitions
        self._settings: Final = settings
        self._changed: Final = changed.rows
        self._outbox: Final = outbox
        self._accounts: Final = accounts
        self._routes: Final = routes
        self._changes: Final = changes
        self._participants: Final = participants
        self._done: dict[bytes, CommandRow] = {}

    def __len__(self) -> int:
        """How many command ids are remembered."""
        return len(self._done)

    def take(self, origin: RecordOrigin, moment: Moment) -> bool | None:
        """Carries out what the record holds. Returns whether it acted; None where it was rejected."""
        command: AnyCommand | None = None
        try:
            command = decode_command(origin.value)
            return self._obey_once(command, origin.offset, moment)
        except RefusedError as refused:
            self._outbox.reject(
                origin, 0, refused.reason, str(refused), moment.now_ms, field=refused.field,
                event_id=None if command is None else command.command_id,
                organization_id=None if command is None else command.about,
            )  # fmt: skip
            return None

    def _obey_once(self, command: AnyCommand, offset: int, moment: Moment) -> bool:
        if partition_of(command.account_id, self._partitions) != self._partition:
            raise RefusedError("came to a partition that is not its account's home", "account_id")
        memory = f"m|{command.account_id}|{command.command_id}".encode()
        digest = _digest(command)
        before = self._done.get(memory)
        if before is not None:
            if before.digest != digest:
                raise RefusedError("was the id of another command before", "command_id")
            return False
        change = self._obey(command, offset, moment)
        self._remember(memory, CommandRow(offset, digest))
        self._outbox.trail(trail_entry(command, change, self._partition, offset, moment.now_ms))
        return True

    def _obey(self, command: AnyCommand, offset: int, moment: Moment) -> Change:
        match command:
            case OrganizationPut():
                before = self._accounts.organizations.get(command.organization_id)
                change = self._accounts.put_organization(command, offset)
                self._routes.forget()
                self._changes.organization_put(moment, command.organization_id, before)
            case KeyPut() | KeyRevoke():
                change = self._accounts.obey(command)
                self._routes.forget()
                self._changes.key_changed(moment, command.api_key_id)
            case _:
                self._accounts.check_known(command)
                change = self._participants.obey(moment, command)
                self._routes.forget()
        return change

    def _remember(self, memory: bytes, row: CommandRow) -> None:
        self._done[memory] = row
        self._changed[memory] = row
        if len(self._done) > self._settings.commands_max:
            oldest = next(iter(self._done))
            del self._done[oldest]
            self._changed[oldest] = None

    def restore(self, key: bytes, row: CommandRow) -> None:
        """Takes in a recovered row."""
        self._done[key] = row

    def resume(self) -> None:
        """All rows are back: the memory of commands is put in the order in which they came."""
        self._done = dict(sorted(self._done.items(), key=lambda item: item[1].offset))


def _digest(command: AnyCommand) -> int:
    """``digest_of`` the command's fields. Those that came later and are not given don't count: a command is the same to
    workers that do not know them yet."""
    content = command.model_dump(mode="json")
    return digest_of({name: value for name, value in content.items() if value is not None or name not in _CAME_LATER})
