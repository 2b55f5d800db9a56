"""Operator commands: organizations and keys, each command once (requirements, section 1)."""

import json
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from sluicegate_schemas.accounts import ACCOUNT_COMMAND, AnyCommand, KeyPut, KeyRevoke, OrganizationPut
from sluicegate_schemas.outputs import RejectReason
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.wire_checks import HARMLESS_NAME

from .dedup import digest_of
from .settings import DomainSettings
from .tables import ChangedRows, CommandRow, KeyRow, OrganizationRow, row_key

_COMMAND_BYTES_MAX: Final = 64 * 1024


class RefusedError(Exception):
    """A command can't be obeyed: the reason and field of its reject; the argument says why."""

    def __init__(self, detail: str, field: str | None = None, reason: RejectReason = "command_refused") -> None:
        super().__init__(detail)
        self.field = field
        self.reason = reason


def decode_command(value: bytes | None) -> AnyCommand:
    """The command that a record holds. Raises RefusedError."""
    if not value:
        raise RefusedError("The record has no value.", reason="empty")
    if len(value) > _COMMAND_BYTES_MAX:
        raise RefusedError(f"A command has {_COMMAND_BYTES_MAX} bytes at most.", reason="too_large")
    try:
        json.loads(value.decode(), object_pairs_hook=_distinct)
    except UnicodeDecodeError:
        raise RefusedError("The record is not UTF-8.", reason="not_utf8") from None
    except (ValueError, RecursionError):
        raise RefusedError("The record is not JSON.", reason="not_json") from None
    try:
        return ACCOUNT_COMMAND.validate_json(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path, detail = problem["loc"], problem["msg"]
    if problem["type"] == "extra_forbidden":
        name, path = str(path[-1]), path[:-1]
        detail = f"has an unknown field: {name}" if HARMLESS_NAME(name) else "has an unknown field"
    field = ".".join(str(word) for word in path)
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        raise RefusedError("kind is none of the commands that this worker knows", "kind", "unknown_command")
    reason: RejectReason = "not_json" if problem["type"] == "json_invalid" else "invalid"
    raise RefusedError(detail, field or None, reason)


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise RefusedError("A field is given twice.", reason="duplicate_field")
    return fields


class Accounts:
    """The organizations and keys of a partition, as commands made them."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        settings: DomainSettings,
        changed: ChangedRows,
    ) -> None:
        self._partition = partition
        self._partitions = partitions
        self._settings = settings
        self._changed = changed.rows
        self.organizations: dict[str, OrganizationRow] = {}
        self.keys: dict[str, KeyRow] = {}
        self._keys_of: dict[str, list[str]] = {}
        self._key_by_hash: dict[str, str] = {}
        self._commands: dict[bytes, CommandRow] = {}

    @property
    def commands_known(self) -> int:
        """How many command ids are remembered."""
        return len(self._commands)

    def keys_of(self, organization_id: str) -> list[str]:
        """The ids of an organization's keys, revoked ones too, in order."""
        return sorted(self._keys_of.get(organization_id, ()))

    def obey(self, command: AnyCommand, offset: int, others: Callable[[AnyCommand], None]) -> bool:
        """Carries out a command, by ``others`` where it is not about organizations and keys themselves; False if it was
        carried out before. Raises RefusedError, then nothing changed."""
        if partition_of(command.account_id, self._partitions) != self._partition:
            raise RefusedError("came to a partition that is not its account's home", "account_id")
        memory = f"m|{command.account_id}|{command.command_id}".encode()
        digest = digest_of(command.model_dump(mode="json"))
        before = self._commands.get(memory)
        if before is not None:
            if before.digest != digest:
                raise RefusedError("was the id of another command before", "command_id")
            return False
        match command:
            case OrganizationPut():
                self._put_organization(command)
            case KeyPut():
                self._put_key(command)
            case KeyRevoke():
                self._revoke_key(command)
            case _:
                self._check_known(command)
                others(command)
        self._remember(memory, CommandRow(offset, digest))
        return True

    def _check_known(self, command: AnyCommand) -> None:
        organization_id = command.about
        organization = self.organizations.get(organization_id)
        if organization is None:
            raise RefusedError("is not an organization that is known", "organization_id")
        if organization.account_id != command.account_id:
            raise RefusedError("is not the account of the organization", "account_id")
        api_key_id: str | None = getattr(command, "api_key_id", None)
        if api_key_id is not None:
            key = self.keys.get(api_key_id)
            if key is None or key.organization_id != organization_id:
                raise RefusedError("is not a key of the organization", "api_key_id")

    def _remember(self, memory: bytes, row: CommandRow) -> None:
        self._commands[memory] = row
        self._changed[memory] = row
        if len(self._commands) > self._settings.commands_max:
            oldest = next(iter(self._commands))
            del self._commands[oldest]
            self._changed[oldest] = None

    def _put_organization(self, command: OrganizationPut) -> None:
        organization_id, account_id = command.organization_id, command.account_id
        before = self.organizations.get(organization_id)
        if before is None:
            if account_id != organization_id and account_id not in self.organizations:
                raise RefusedError("is not an organization that is known", "account_id")
            if len(self.organizations) >= self._settings.organizations_max:
                raise RefusedError(f"a partition holds {self._settings.organizations_max} organizations at most")
        elif before.account_id != account_id:
            raise RefusedError("is not the account of the organization", "account_id")
        row = organization_row(command)
        self.organizations[organization_id] = row
        self._changed[row_key("o", organization_id)] = row

    def _check_organization(self, command: KeyPut | KeyRevoke) -> None:
        organization = self.organizations.get(command.organization_id)
        if organization is None:
            raise RefusedError("is not an organization that is known", "organization_id")
        if organization.account_id != command.account_id:
            raise RefusedError("is not the account of the organization", "account_id")

    def _put_key(self, command: KeyPut) -> None:
        self._check_organization(command)
        api_key_id = command.api_key_id
        before = self.keys.get(api_key_id)
        if before is None:
            if len(self.keys) >= self._settings.keys_max:
                raise RefusedError(f"a partition holds {self._settings.keys_max} keys at most")
            if command.key_sha256 in self._key_by_hash:
                raise RefusedError("is the hash of another key", "key_sha256")
        elif before.organization_id != command.organization_id:
            raise RefusedError("belongs to another organization", "api_key_id")
        elif before.key_sha256 != command.key_sha256:
            raise RefusedError("is not the hash that the key had", "key_sha256")
        elif before.revoked:
            raise RefusedError("was revoked", "api_key_id")
        row = KeyRow(command.organization_id, command.key_sha256, command.mode, False)
        self._insert_key(api_key_id, row)
        self._changed[row_key("k", api_key_id)] = row

    def _insert_key(self, api_key_id: str, row: KeyRow) -> None:
        if api_key_id not in self.keys:
            self._keys_of.setdefault(row.organization_id, []).append(api_key_id)
        self.keys[api_key_id] = row
        self._key_by_hash[row.key_sha256] = api_key_id

    def _revoke_key(self, command: KeyRevoke) -> None:
        self._check_organization(command)
        row = self.keys.get(command.api_key_id)
        if row is None or row.organization_id != command.organization_id:
            raise RefusedError("is not a key of the organization", "api_key_id")
        row.revoked = True
        self._changed[row_key("k", command.api_key_id)] = row

    def key_of_hash(self, key_sha256: str) -> str | None:
        """The id of the key with this hash."""
        return self._key_by_hash.get(key_sha256)

    def restore_organization(self, organization_id: str, row: OrganizationRow) -> None:
        """Takes in a recovered row."""
        self.organizations[organization_id] = row

    def restore_key(self, api_key_id: str, row: KeyRow) -> None:
        """Takes in a recovered row."""
        self._insert_key(api_key_id, row)

    def restore_command(self, key: bytes, row: CommandRow) -> None:
        """Takes in a recovered row."""
        self._commands[key] = row

    def resume(self) -> None:
        """All rows are back: the memory of commands is put in the order in which they came."""
        self._commands = dict(sorted(self._commands.items(), key=lambda item: item[1].offset))


def organization_row(command: OrganizationPut) -> OrganizationRow:
    """What a put organization is kept as."""
    rates, shares, quotas, features = command.rates, command.shares, command.quotas, command.features
    modes, pool = command.failure_modes, command.pool
    return OrganizationRow(
        command.account_id,
        command.tier,
        command.credits_micro_per_month,
        None if rates is None else (rates.requests_per_second, rates.burst, rates.requests_per_minute),
        None if shares is None else (shares.metadata, shares.data, shares.search, shares.upload, shares.compute),
        command.concurrency,
        None if quotas is None else {str(name): quotas[name] for name in sorted(quotas)},
        command.objects_per_batch,
        None
        if features is None
        else {name: list(value) if isinstance(value, tuple) else value for name, value in sorted(features.items())},
        command.credits_mode,
        None if modes is None else {str(name): (modes[name].mode, modes[name].allowance_percent) for name in modes},
        None if pool is None else (pool.cap_micro, pool.reserved_micro),
    )
