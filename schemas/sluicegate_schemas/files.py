"""The operator's files: a catalogue, or accounts with their keys, as TOML with money in credits.

A catalogue file has the fields of ``catalogue.Catalogue``, with ``credits…`` for ``credits_micro…``, and a table
``free_operations`` that lists what costs nothing by category; a plan's value may be ``"custom"``. An accounts file::

    issued_at = 2026-01-01T00:00:00Z      # part of each command's id: raise it when the file changes
    issued_by = "platform"

    [[organizations]]
    id = "org_acme"
    tier = "pro"
    credits_per_month = 250_000           # optional: instead of the plan's
    keys = [{ id = "key_acme_1", sha256 = "…" }]
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, NoReturn, TypeVar, get_args

from pydantic import Field, StringConstraints, ValidationError

from .accounts import ACCOUNT_COMMAND, AnyCommand, KeyMode
from .bounds import AccountId, ApiKeyId, CreditsMicro, Name, OrganizationId, Record, Sentence, Sha256, Time
from .catalogue import Catalogue, Tier
from .limits import Category, RateLimits
from .money import parse_credits
from .toml_lines import line_of

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
_ORGANIZATIONS_MAX: Final = 100_000
_KEYS_MAX: Final = 10_000
_INTEGER_MAX: Final = 2**63 - 1
_DETAIL_MAX: Final = 500
_RENAMED: Final = {
    "credits": "credits_micro",
    "credits_per_month": "credits_micro_per_month",
    "credits_default": "credits_micro_default",
    "credits_min": "credits_micro_min",
    "credits_max": "credits_micro_max",
    "credits_above": "credits_micro_above",
}
_NAMES_IN_FILES: Final = {micro: name for name, micro in _RENAMED.items()}
_CATEGORIES: Final = get_args(Category)
_TOML_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)")
_Path = tuple[str | int, ...]
_RecordT = TypeVar("_RecordT", bound=Record)


class FileError(ValueError):
    """A file cannot be used: ``field`` (its path, such as ``plans.pro.rates``) and ``line``, where they are known."""

    def __init__(self, detail: str, *, field: str | None = None, line: int | None = None) -> None:
        detail = detail if len(detail) <= _DETAIL_MAX else f"{detail[: _DETAIL_MAX - 1]}…"
        where = [f"line {line}" if line is not None else "", field or ""]
        super().__init__(": ".join([", ".join(word for word in where if word), detail]).removeprefix(": "))
        self.detail = detail
        self.field = field
        self.line = line


class _FileKey(Record):
    id: ApiKeyId
    sha256: Sha256 | None = None
    secret: Annotated[str, StringConstraints(pattern=r"^sk_(live|test)_[A-Za-z0-9_-]{8,200}$")] | None = None
    """For demonstrations: hashed as it is read, and neither kept nor repeated."""
    mode: KeyMode | None = None
    revoked: bool = False


class _FileOrganization(Record):
    id: OrganizationId
    account: AccountId | None = None
    tier: Tier
    credits_micro_per_month: CreditsMicro | None = None
    rates: RateLimits | None = None
    keys: Annotated[tuple[_FileKey, ...], Field(max_length=_KEYS_MAX)] = ()


class _AccountsFile(Record):
    issued_at: Time
    issued_by: Name
    reason: Sentence = ""
    organizations: Annotated[tuple[_FileOrganization, ...], Field(min_length=1, max_length=_ORGANIZATIONS_MAX)]


def load_catalogue(text: str) -> Catalogue:
    """The catalogue that the TOML ``text`` holds. Raises FileError."""
    return _File(text).read(Catalogue, _catalogue_fields)


def load_accounts(text: str) -> list[AnyCommand]:
    """The commands that make the accounts of the TOML ``text`` known: each organization, then its keys.

    A command's id is drawn from its content, so a file that is published twice acts once. Raises FileError.
    """
    file = _File(text)
    content = file.read(_AccountsFile, _accounts_fields)
    commands: list[AnyCommand] = []
    seen: set[str] = set()

    def once(identifier: str, path: _Path) -> None:
        if identifier in seen:
            file.fail(path, "is given twice")
        seen.add(identifier)

    for at, organization in enumerate(content.organizations):
        once(organization.id, ("organizations", at, "id"))
        shared = {
            "issued_at": content.issued_at.isoformat(),
            "issued_by": content.issued_by,
            "reason": content.reason,
            "account_id": organization.account or organization.id,
            "organization_id": organization.id,
        }
        own = organization.model_dump(include={"tier", "credits_micro_per_month", "rates"})
        commands.append(_command({"kind": "organization.put", **shared, **own}))
        for key_at, key in enumerate(organization.keys):
            path: _Path = ("organizations", at, "keys", key_at)
            sha256, mode = _hash_and_mode(file, key, path)
            once(key.id, (*path, "id"))
            once(sha256, (*path, "secret" if key.secret else "sha256"))
            shared_key = {**shared, "api_key_id": key.id}
            commands.append(_command({"kind": "key.put", **shared_key, "key_sha256": sha256, "mode": mode}))
            if key.revoked:
                commands.append(_command({"kind": "key.revoke", **shared_key}))
    return commands


def _shown(name: str) -> str:
    """A name of a file as a message shows it: on one line, without control signs, not long."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return name
    return json.dumps(name if len(name) <= 64 else f"{name[:63]}…")


def _hash_and_mode(file: "_File", key: _FileKey, path: _Path) -> tuple[str, KeyMode]:
    if key.secret is None:
        if key.sha256 is None:
            file.fail(path, "needs sha256, the hash of the key's secret")
        return key.sha256, key.mode or "live"
    if key.sha256 is not None:
        file.fail(path, "sha256 and secret exclude each other")
    mode: KeyMode = "live" if key.secret.startswith("sk_live_") else "test"
    if key.mode not in (None, mode):
        file.fail((*path, "mode"), f"says {key.mode}, but the secret is of a {mode} key")
    return hashlib.sha256(key.secret.encode()).hexdigest(), mode


def _command(fields: dict[str, object]) -> AnyCommand:
    """The command with an id drawn from what it says; fields at their default are left out, so that a later version
    with more optional fields draws the same id."""
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    digest = hashlib.sha256(json.dumps(given, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return ACCOUNT_COMMAND.validate_json(json.dumps({**given, "command_id": f"file-{digest[:40]}"}))


class _File:
    """A parsed TOML text that turns what is wrong in it into errors with a field and a line."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text.encode(errors="replace")) > FILE_BYTES_MAX:
            raise FileError(f"is larger than {FILE_BYTES_MAX} bytes")
        try:
            parsed = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            match = _TOML_LINE.search(str(error))
            detail = _TOML_LINE.sub("", str(error)).strip()
            raise FileError(f"is not valid TOML: {detail}", line=int(match[1]) if match else None) from None
        except ValueError:
            raise FileError("holds a number of thousands of digits") from None
        except RecursionError:
            raise FileError("is not usable TOML: nested too deep") from None
        try:
            self.content: dict[str, Any] = {name: self.plain(value, (name,)) for name, value in parsed.items()}
        except RecursionError:
            raise FileError("is not usable: nested too deep") from None

    def fail(self, path: _Path, detail: str) -> NoReturn:
        field = ""
        for name in path:
            if isinstance(name, int):
                field += f"[{name}]"
            else:
                field += ("." if field else "") + _shown(name)
        raise FileError(detail, field=field or None, line=line_of(self.text, path))

    def read(self, model: type[_RecordT], fields: "Callable[[_File], dict[str, object]]") -> _RecordT:
        try:
            return model.model_validate_json(json.dumps(fields(self)))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            more = f" ({len(problems) - 1} more problems in this file)" if len(problems) > 1 else ""
            self.fail(self.path_of(problems[0]["loc"]), problems[0]["msg"].removeprefix("Value error, ") + more)

    def path_of(self, location: Iterable[str | int]) -> _Path:
        """A pydantic error location as the path in the file: file names, without the tags of unions."""
        node: object = self.content
        path: _Path = ()
        for name in location:
            here = _NAMES_IN_FILES.get(name, name) if isinstance(name, str) else name
            if here == "[key]":
                break
            if isinstance(node, Mapping):
                if here not in node and node.get("kind") == here:
                    continue
                node = node.get(here)
            elif isinstance(node, list) and isinstance(here, int) and here < len(node):
                node = node[here]
            path = (*path, here)
        return path

    def plain(self, value: object, path: _Path) -> Any:
        """``value`` as JSON knows it: times as RFC 3339. Fractions and times without a zone are refused."""
        if isinstance(value, dict):
            return {name: self.plain(child, (*path, name)) for name, child in value.items()}
        if isinstance(value, list):
            return [self.plain(child, (*path, at)) for at, child in enumerate(value)]
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.isoformat()
        if isinstance(value, int) and abs(value) > _INTEGER_MAX:
            self.fail(path, f"must lie between -{_INTEGER_MAX} and {_INTEGER_MAX}")
        if not isinstance(value, str | int):
            what = 'a fraction: write "0.1", in quotes' if isinstance(value, float) else "a time without a zone"
            self.fail(path, f"must not be {what}")
        return value

    def credits(self, table: object, path: _Path, names: Iterable[str]) -> dict[str, Any]:
        """``table`` with the credits under ``names`` as micro-credits under the records' own names."""
        if not isinstance(table, dict):
            self.fail(path, "must be a table")
        converted = dict(table)
        for name in names:
            if _RENAMED[name] in table:
                self.fail((*path, _RENAMED[name]), f"is written in credits here: {name}")
            if name in table:
                converted[_RENAMED[name]] = self.credits_value(converted.pop(name), (*path, name))
        return converted

    def credits_value(self, value: object, path: _Path) -> int:
        try:
            return parse_credits(value)
        except ValueError as error:
            self.fail(path, str(error))


def _catalogue_fields(file: _File) -> dict[str, object]:
    content = dict(file.content)
    free = content.pop("free_operations", {})
    if isinstance(plans := content.get("plans"), dict):
        content["plans"] = {tier: _plan(file, plan, ("plans", tier)) for tier, plan in plans.items()}
    operations: dict[str, object] = {}
    if isinstance(content.get("operations", {}), dict):
        for name, entry in content.get("operations", {}).items():
            operations[name] = _entry(file, entry, ("operations", name))
        operations.update(_free(file, free, operations))
        content["operations"] = operations
    return content


def _plan(file: _File, plan: object, path: _Path) -> dict[str, object]:
    """One plan; what is "custom" is null in the record. Nothing is custom by being left out."""
    if not isinstance(plan, dict):
        file.fail(path, "must be a table")
    given = {name: value for name, value in plan.items() if value != "custom"}
    converted = file.credits(given, path, ["credits_per_month"])
    for name in plan.keys() - given.keys():
        converted[str(_RENAMED.get(name, name))] = None
    return converted


def _entry(file: _File, entry: object, path: _Path) -> dict[str, object]:
    """One operation of the rate card with its prices in micro-credits; storage has no category."""
    if not isinstance(entry, dict):
        file.fail(path, "must be a table")
    converted: dict[str, object] = {"category": None, **entry}
    if "price" in entry:
        at = (*path, "price")
        names = ["credits", "credits_default", "credits_min", "credits_max", "credits_above"]
        price = file.credits(entry["price"], at, names)
        if isinstance(models := price.get("models"), dict):
            price["models"] = {name: file.credits_value(value, (*at, "models", name)) for name, value in models.items()}
        if isinstance(steps := price.get("steps"), list):
            price["steps"] = [file.credits(step, (*at, "steps", n), ["credits"]) for n, step in enumerate(steps)]
        converted["price"] = price
    return converted


def _free(file: _File, free: object, priced: Mapping[str, object]) -> dict[str, object]:
    """The operations that ``free_operations`` lists by category."""
    if not isinstance(free, dict):
        file.fail(("free_operations",), "must be a table of lists, by category")
    entries: dict[str, object] = {}
    for category, names in free.items():
        path: _Path = ("free_operations", category)
        if category not in _CATEGORIES:
            file.fail(path, f"must be a category: {', '.join(_CATEGORIES)}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            file.fail(path, "must be a list of operations")
        for name in names:
            if name in priced or name in entries:
                file.fail(path, f"lists {_shown(name)}, which is given elsewhere too")
            entries[name] = {"category": category}
    return entries


def _accounts_fields(file: _File) -> dict[str, object]:
    content = dict(file.content)
    if isinstance(organizations := content.get("organizations"), list):
        content["organizations"] = [
            file.credits(organization, ("organizations", at), ["credits_per_month"])
            for at, organization in enumerate(organizations)
        ]
    return content
