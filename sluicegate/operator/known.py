"""The organizations and keys that the workers made known, from the entitlements topic."""

from typing import Final, NamedTuple, Protocol, TypeVar

from pydantic import ValidationError

from sluicegate_schemas.bounds import API_KEY_ID_PATTERN, ORGANIZATION_ID_PATTERN, full_match
from sluicegate_schemas.outputs import ENTITLEMENT, KeyEntitlement, OrganizationEntitlement
from sluicegate_schemas.topics import ENTITLEMENTS

from ..errors import ConfigurationError, NotFoundError, PublishRefusedError
from .logs import read_all
from .system import System

_ORGANIZATION: Final = full_match(ORGANIZATION_ID_PATTERN)
_KEY: Final = full_match(API_KEY_ID_PATTERN)
_One = TypeVar("_One", KeyEntitlement, OrganizationEntitlement)


class OwnedKey(Protocol):
    """A key, as whoever holds it names it."""

    @property
    def api_key_id(self) -> str:
        """Its id."""

    @property
    def organization_id(self) -> str:
        """Whose it is."""


def check_key_is_free(
    organization_id: str, api_key_id: str, same_id: OwnedKey | None, same_hash: OwnedKey | None
) -> None:
    """Whether an organization may have a key of this id and hash: ``same_id`` and ``same_hash`` are who has them now.

    The worker that obeys knows its own partition's keys alone, so whoever writes a command looks first. Raises
    PublishRefusedError.
    """
    if same_id is not None and same_id.organization_id != organization_id:
        raise PublishRefusedError(f"{api_key_id} belongs to another organization")
    if same_hash is not None and (same_hash.organization_id, same_hash.api_key_id) != (organization_id, api_key_id):
        raise PublishRefusedError(f"what is given for {api_key_id} is the hash of another key")


class Known(NamedTuple):
    """By their ids, each as it was last published."""

    organizations: dict[str, OrganizationEntitlement]
    keys: dict[str, KeyEntitlement]

    def organization(self, organization_id: str) -> OrganizationEntitlement:
        """Raises NotFoundError for one that is not known."""
        found = self.organizations.get(organization_id)
        if found is None:
            raise NotFoundError(f"the workers know no organization {organization_id}")
        return found

    def key(self, api_key_id: str) -> KeyEntitlement:
        """Raises NotFoundError for one that is not known."""
        found = self.keys.get(api_key_id)
        if found is None:
            raise NotFoundError(f"the workers know no key {api_key_id}")
        return found

    def key_of_hash(self, key_sha256: str) -> KeyEntitlement | None:
        """A key whose secret has this SHA-256."""
        return next((key for key in self.keys.values() if key.key_sha256 == key_sha256), None)

    def keys_of(self, organization_id: str) -> list[KeyEntitlement]:
        """Its keys, by id."""
        found = [key for key in self.keys.values() if key.organization_id == organization_id]
        return sorted(found, key=lambda key: key.api_key_id)


async def read_known(system: System) -> tuple[Known, int]:
    """Everything that gates know, as of now, and how many records cannot be read and are left out."""
    known = Known({}, {})
    unreadable = 0
    async for record in read_all(system.brokers, system.topic(ENTITLEMENTS)):
        if record.value is None:
            continue
        try:
            entitlement = ENTITLEMENT.validate_json(record.value)
        except ValidationError:
            unreadable += 1
            continue
        if isinstance(entitlement, KeyEntitlement):
            _keep(known.keys, entitlement.api_key_id, entitlement)
        else:
            _keep(known.organizations, entitlement.organization_id, entitlement)
    return known, unreadable


def _keep(kept: dict[str, _One], name: str, new: _One) -> None:
    old = kept.get(name)
    if old is None or _rank(old) <= _rank(new):
        kept[name] = new


def _rank(one: KeyEntitlement | OrganizationEntitlement) -> tuple[int, int]:
    return one.sequence.epoch, one.sequence.counter


def organization_id(text: str) -> str:
    """``text``, if it can be an organization's id. Raises ConfigurationError."""
    if not _ORGANIZATION.match(text):
        raise ConfigurationError("an organization must look like org_name: letters, digits, _ and -, 1 to 60 of them")
    return text


def key_id(text: str) -> str:
    """``text``, if it can be a key's id. Raises ConfigurationError."""
    if not _KEY.match(text):
        raise ConfigurationError("a key must look like key_name: letters, digits, _ and -, 1 to 60 of them")
    return text
