"""The organizations and keys of a partition, as commands made them (requirements, section 1)."""

from collections import Counter
from typing import Any, Final

import msgspec

from sluicegate_schemas.accounts import AnyCommand, KeyPut, KeyRevoke, OrganizationPut

from .command_record import RefusedError
from .settings import DomainSettings
from .tables import ChangedRows, KeyRow, OrganizationRow, row_key
from .trail import Change


class Accounts:
    """Keeps them. A change is told to nobody here: see ``plan_changes``."""

    def __init__(self, settings: DomainSettings, changed: ChangedRows) -> None:
        self._settings: Final = settings
        self._changed: Final = changed.rows
        self.organizations: Final[dict[str, OrganizationRow]] = {}
        self.keys: Final[dict[str, KeyRow]] = {}
        self._keys_of: Final[dict[str, list[str]]] = {}
        self._live_keys: Final[Counter[str]] = Counter()
        self._key_by_hash: Final[dict[str, str]] = {}

    def organization_of_key(self, api_key_id: str) -> str | None:
        """Whose the key is; None for one that is not known."""
        key = self.keys.get(api_key_id)
        return None if key is None else key.organization_id

    def keys_of(self, organization_id: str) -> list[str]:
        """The ids of an organization's keys, revoked ones too, in order."""
        return sorted(self._keys_of.get(organization_id, ()))

    def key_of_hash(self, key_sha256: str) -> str | None:
        """The id of the key with this hash."""
        return self._key_by_hash.get(key_sha256)

    def check_known(self, command: AnyCommand) -> None:
        """Whether the command is about a known organization of its account, and a key of it where it names one. Raises
        RefusedError."""
        organization_id = command.about
        organization = self.organizations.get(organization_id)
        if organization is None:
            raise RefusedError("is not an organization that is known", "organization_id")
        if organization.account_id != command.account_id:
            raise RefusedError("is not the account of the organization", "account_id")
        api_key_id: str | None = getattr(command, "api_key_id", None)
        if api_key_id is not None and not isinstance(command, KeyPut):
            key = self.keys.get(api_key_id)
            if key is None or key.organization_id != organization_id:
                raise RefusedError("is not a key of the organization", "api_key_id")

    def obey(self, command: KeyPut | KeyRevoke) -> Change:
        """Carries out a command about a key. Raises RefusedError, then nothing changed."""
        self.check_known(command)
        return self._put_key(command) if isinstance(command, KeyPut) else self._revoke_key(command)

    def put_organization(self, command: OrganizationPut, offset: int) -> Change:
        """Carries out a command that stands at ``offset``. Raises RefusedError, then nothing changed."""
        organization_id, account_id = command.organization_id, command.account_id
        before = self.organizations.get(organization_id)
        if before is None:
            if account_id != organization_id and account_id not in self.organizations:
                raise RefusedError("is not an organization that is known", "account_id")
            if len(self.organizations) >= self._settings.organizations_max:
                raise RefusedError(f"a partition holds {self._settings.organizations_max} organizations at most")
        elif before.account_id != account_id:
            raise RefusedError("is not the account of the organization", "account_id")
        if account_id == organization_id:
            if command.pool is not None:
                raise RefusedError("is for organizations whose account is another", "pool")
        elif self.organizations[account_id].account_id != account_id:
            raise RefusedError("shares the credits of another account itself", "account_id")
        if command.based_on is not None and not _is_in_force(before, command.based_on):
            raise RefusedError("is not the put that is in force", "based_on", "conflict")
        row = self.organizations[organization_id] = organization_row(command, offset)
        self._changed[row_key("o", organization_id)] = row
        return Change(organization_id, _shown(before), _shown(row))

    def _put_key(self, command: KeyPut) -> Change:
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
        scopes: list[str] | None = None if command.scopes is None else [*command.scopes]
        row = KeyRow(command.organization_id, command.key_sha256, command.mode, False, scopes)
        self._insert_key(api_key_id, row)
        self._changed[row_key("k", api_key_id)] = row
        return Change(api_key_id, _shown(before), _shown(row))

    def live_keys_of(self, organization_id: str) -> int:
        """How many keys of an organization are not revoked."""
        return self._live_keys[organization_id]

    def _insert_key(self, api_key_id: str, row: KeyRow) -> None:
        if api_key_id not in self.keys:
            self._keys_of.setdefault(row.organization_id, []).append(api_key_id)
            self._live_keys[row.organization_id] += not row.revoked
        self.keys[api_key_id] = row
        self._key_by_hash[row.key_sha256] = api_key_id

    def _revoke_key(self, command: KeyRevoke) -> Change:
        row = self.keys[command.api_key_id]
        before = _shown(row)
        self._live_keys[row.organization_id] -= not row.revoked
        row.revoked = True
        self._changed[row_key("k", command.api_key_id)] = row
        return Change(command.api_key_id, before, _shown(row))

    def restore_organization(self, organization_id: str, row: OrganizationRow) -> None:
        """Takes in a recovered row."""
        self.organizations[organization_id] = row

    def restore_key(self, api_key_id: str, row: KeyRow) -> None:
        """Takes in a recovered row."""
        self._insert_key(api_key_id, row)


def _is_in_force(row: OrganizationRow | None, based_on: int) -> bool:
    """Whether the put at the offset ``based_on`` is the one in force. Of a row without its revision nobody can tell
    more than that the writer read some put: it holds, and the row has one from then on."""
    return row is not None and row.revision in (None, based_on)


def organization_row(command: OrganizationPut, offset: int) -> OrganizationRow:
    """What an organization is kept as that the command at ``offset`` put."""
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
        offset,
    )


def _shown(row: OrganizationRow | KeyRow | None) -> dict[str, Any] | None:
    """A row as the audit trail shows it: what is given, without the hash of a secret, and without the revision, which
    is the entry's ``source``."""
    if row is None:
        return None
    fields = msgspec.structs.asdict(row)
    fields.pop("key_sha256", None)
    fields.pop("revision", None)
    return {name: value for name, value in fields.items() if value is not None}
