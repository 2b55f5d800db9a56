"""Makes API keys (requirements, section 1): the secret is shown once, only its SHA-256 is kept."""

import hashlib
import secrets
from typing import NamedTuple

from sluicegate_schemas.accounts import KeyMode, KeyScopes
from sluicegate_schemas.bounds import ORGANIZATION_ID_PATTERN, Record, full_match

from ..errors import ConfigurationError
from .commands import Outcome


class NewKey(NamedTuple):
    """``secret`` has 256 random bits. Its repr is not for logs."""

    api_key_id: str
    secret: str
    key_sha256: str


class NewKeyShown(Record):
    """A new key. ``secret`` is shown this once and kept nowhere; ``outcome`` is null where nothing was sent."""

    api_key_id: str
    organization_id: str
    mode: str
    secret: str
    key_sha256: str
    outcome: Outcome | None
    scopes: KeyScopes | None = None


def new_key(organization_id: str, mode: KeyMode) -> NewKey:
    """A fresh key for the organization. Raises ConfigurationError where ``organization_id`` is none."""
    if not full_match(ORGANIZATION_ID_PATTERN).match(organization_id):
        raise ConfigurationError("organization must look like org_name: letters, digits, _ and -, 1 to 60 of them")
    api_key_id = f"key_{organization_id.removeprefix('org_')[:40]}_{secrets.token_hex(4)}"
    secret = f"sk_{mode}_{secrets.token_urlsafe(32)}"
    return NewKey(api_key_id, secret, hashlib.sha256(secret.encode()).hexdigest())
