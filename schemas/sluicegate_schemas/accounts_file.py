"""Accounts with all that they have, as TOML with money in credits::

issued_at = 2026-01-01T00:00:00Z      # part of each command's id: raise it when the file changes
issued_by = "platform"

[[organizations]]
id = "org_acme"
tier = "pro"
credits_per_month = 250_000           # optional, as all own limits: instead of the plan's
concurrency = 80
quotas = { collections = 75 }
keys = [{ id = "key_acme_1", sha256 = "…" }]
grants = [{ id = "welcome", credits = 500, effective_at = 2026-01-01T00:00:00Z }]
boosts = [{ id = "launch", effective_at = …, until = …, concurrency = 200 }]
exemptions = [{ id = "audit", limit = "concurrency", effective_at = …, until = … }]
budgets = [{ period = "day", credits = 10_000, thresholds_percent = [80], blocks = true }]
capacity = { search = 20_000 }

[[organizations]]
id = "org_acme_labs"
account = "org_acme"                  # shares the credits of this organization
tier = "enterprise"
pool = { cap = 50_000, reserved = 5_000 }
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field, StringConstraints, TypeAdapter

from .accounts import (
    AnyCommand,
    BoostPut,
    BudgetPut,
    CapacityReserve,
    Command,
    ExemptionPut,
    GrantPut,
    KeyMode,
    KeyPut,
    KeyRevoke,
    KeyScopes,
    OrganizationPut,
)
from .bounds import ApiKeyId, Name, Record, Sentence, Sha256, Time
from .limits_file import with_limits
from .toml_file import Path, TomlFile

_ORGANIZATIONS_MAX: Final = 100_000
_ENTRIES_MAX: Final = 10_000
"""Keys, grants and so on of one organization, each."""
_RENAMED: Final = {
    "credits": "credits_micro",
    "credits_per_month": "credits_micro_per_month",
    "cap": "cap_micro",
    "reserved": "reserved_micro",
}


class _Kind(NamedTuple):
    """A command, and what it calls fields that have another name in the file."""

    name: str
    model: type[Command]
    names: Mapping[str, str]

    @property
    def adapter(self) -> TypeAdapter[AnyCommand]:
        return _ADAPTERS[self.name]


_ORGANIZATION: Final = _Kind("organization.put", OrganizationPut, {"organization_id": "id", "account_id": "account"})
_KEY: Final = _Kind("key.put", KeyPut, {"api_key_id": "id", "key_sha256": "sha256"})
_REVOKE: Final = _Kind("key.revoke", KeyRevoke, {"api_key_id": "id"})
_CAPACITY: Final = _Kind("capacity.reserve", CapacityReserve, {})
_ENTRIES: Final = {
    "grants": _Kind("grant.put", GrantPut, {"grant_id": "id"}),
    "boosts": _Kind("boost.put", BoostPut, {"boost_id": "id"}),
    "exemptions": _Kind(
        "exemption.put", ExemptionPut, {"exemption_id": "id", "api_key_id": "key", "limit_name": "limit"}
    ),
    "budgets": _Kind("budget.put", BudgetPut, {"api_key_id": "key"}),
}
"""The lists of an organization whose entries are a command each."""
_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {
    kind.name: TypeAdapter(kind.model) for kind in (_ORGANIZATION, _KEY, _REVOKE, _CAPACITY, *_ENTRIES.values())
}
_OF_THE_FILE: Final = ("kind", "command_id", "issued_at", "issued_by", "reason", "account_id", "organization_id")
"""What a command has from the file or the organization around it."""


class _Header(Record):
    issued_at: Time
    issued_by: Name
    reason: Sentence = ""
    organizations: Annotated[list[Any], Field(min_length=1, max_length=_ORGANIZATIONS_MAX)]


class _FileKey(Record):
    id: ApiKeyId
    sha256: Sha256 | None = None
    secret: Annotated[str, StringConstraints(pattern=r"^sk_(live|test)_[A-Za-z0-9_-]{8,200}$")] | None = None
    """For demonstrations: hashed as it is read, and neither kept nor repeated."""
    mode: KeyMode | None = None
    revoked: bool = False
    scopes: KeyScopes | None = None


_HEADER: Final = TypeAdapter(_Header)
_FILE_KEY: Final = TypeAdapter(_FileKey)


def load_accounts(text: str) -> list[AnyCommand]:
    """The commands that make the accounts of the TOML ``text`` known: each organization, then what it has. Those that
    pay for themselves come first, since the others need them.

    A command's id is drawn from its content, so a file that is published twice acts once. Raises FileError.
    """
    return _AccountsFile(TomlFile(text, _RENAMED)).commands()


class _AccountsFile:
    def __init__(self, file: TomlFile) -> None:
        self._file = file
        header = file.read(_HEADER, file.content)
        self._issue = {
            "issued_at": header.issued_at.isoformat(),
            "issued_by": header.issued_by,
            "reason": header.reason,
        }
        self._organizations = file.tables(header.organizations, ("organizations",), _ORGANIZATIONS_MAX)
        self._seen: set[str] = set()

    def commands(self) -> list[AnyCommand]:
        """All commands of the file."""
        numbered = list(enumerate(self._organizations))
        numbered.sort(key=lambda item: item[1].get("account", item[1].get("id")) != item[1].get("id"))
        return [command for at, organization in numbered for command in self._of(organization, ("organizations", at))]

    def _of(self, organization: dict[str, Any], path: Path) -> list[AnyCommand]:
        """An organization and all that it has."""
        file = self._file
        lists = {name: organization.pop(name, []) for name in ("keys", *_ENTRIES)}
        capacity = organization.pop("capacity", {})
        own = with_limits(file, file.credits(organization, path, ["credits_per_month"]), path)
        if "pool" in own:
            own["pool"] = file.credits(own["pool"], (*path, "pool"), ["cap", "reserved"])
        put = self._command(_ORGANIZATION, {"account": own.get("id"), **own}, path, {})
        self._once(put.about, (*path, "id"))
        names = {"account_id": put.account_id, "organization_id": put.about}
        commands = [put]
        for at, key in enumerate(file.tables(lists["keys"], (*path, "keys"), _ENTRIES_MAX)):
            commands += self._key(key, (*path, "keys", at), names)
        for name, kind in _ENTRIES.items():
            for at, entry in enumerate(file.tables(lists[name], (*path, name), _ENTRIES_MAX)):
                place: Path = (*path, name, at)
                fields = with_limits(file, file.credits(entry, place, ["credits"]), place)
                commands.append(self._command(kind, fields, place, names))
                if "id" in entry:
                    owner = names["account_id" if kind.model is GrantPut else "organization_id"]
                    self._once(f"{kind.name} {owner} {entry['id']}", (*place, "id"))
        for category, amount in file.table(capacity, (*path, "capacity")).items():
            place = (*path, "capacity")
            reserve = {"category": category, "credits_micro": file.credits_value(amount, (*place, category))}
            commands.append(self._command(_CAPACITY, reserve, place, names))
        return commands

    def _key(self, entry: dict[str, Any], path: Path, names: Mapping[str, str]) -> list[AnyCommand]:
        key = self._file.read(_FILE_KEY, entry, path)
        sha256, mode = self._hash_and_mode(key, path)
        self._once(key.id, (*path, "id"))
        self._once(sha256, (*path, "secret" if key.secret else "sha256"))
        fields: dict[str, Any] = {"id": key.id, "sha256": sha256, "mode": mode}
        if key.scopes is not None:
            fields["scopes"] = key.scopes
        commands = [self._command(_KEY, fields, path, names)]
        if key.revoked:
            commands.append(self._command(_REVOKE, {"id": key.id}, path, names))
        return commands

    def _hash_and_mode(self, key: _FileKey, path: Path) -> tuple[str, KeyMode]:
        if key.secret is None:
            if key.sha256 is None:
                self._file.fail(path, "needs sha256, the hash of the key's secret")
            return key.sha256, key.mode or "live"
        if key.sha256 is not None:
            self._file.fail(path, "sha256 and secret exclude each other")
        mode: KeyMode = "live" if key.secret.startswith("sk_live_") else "test"
        if key.mode not in (None, mode):
            self._file.fail((*path, "mode"), f"says {key.mode}, but the secret is of a {mode} key")
        return hashlib.sha256(key.secret.encode()).hexdigest(), mode

    def _once(self, identifier: str, path: Path) -> None:
        if identifier in self._seen:
            self._file.fail(path, "is given twice")
        self._seen.add(identifier)

    def _command(self, kind: _Kind, entry: Mapping[str, Any], path: Path, names: Mapping[str, str]) -> AnyCommand:
        """The command that ``entry`` makes, about what ``names`` says.

        Its id is drawn from what is given: fields that are left out are left out of it too, so that a later version
        with more optional fields draws the same id.
        """
        fields = dict(entry)
        for name in (*_OF_THE_FILE, *kind.names):
            if name in fields:
                here = kind.names.get(name)
                self._file.fail((*path, name), f"is written as {here} here" if here else "is not said here")
        for name, here in kind.names.items():
            if here in fields:
                fields[name] = fields.pop(here)
        about = {name: value for name, value in names.items() if name in kind.model.model_fields}
        fields = {"kind": kind.name, **self._issue, **about, **fields}
        given = {name: value for name, value in fields.items() if value not in (None, "")}
        digest = hashlib.sha256(json.dumps(given, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        given["command_id"] = f"file-{digest[:40]}"
        return self._file.read(kind.adapter, given, path, kind.names)
