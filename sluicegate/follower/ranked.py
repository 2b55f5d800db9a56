"""Tables in which only a higher sequence of a record key replaces what is there."""

from enum import StrEnum
from typing import TypeVar

from sluicegate_schemas.outputs import KeyEntitlement

from .entries import Key, key_of

Rank = tuple[int, int]
"""(epoch, counter) of a record's sequence."""
Entry = TypeVar("Entry")


class Outcome(StrEnum):
    """What one record did to the view."""

    APPLIED = "applied"
    STALE = "stale"
    REMOVED = "removed"
    MALFORMED = "malformed"
    OVERFLOWED = "overflowed"
    OTHERS = "others"
    """A lease of another node."""


def put(table: dict[str, tuple[Rank, Entry]], name: str, rank: Rank, entry: Entry, limit: int) -> Outcome:
    """Puts ``entry`` under ``name``, unless what is there is as new, or a new name finds ``limit`` others."""
    held = table.get(name)
    if held is not None and held[0] >= rank:
        return Outcome.STALE
    if held is None and len(table) >= limit:
        return Outcome.OVERFLOWED
    table[name] = (rank, entry)
    return Outcome.APPLIED


class KeyTable:
    """Keys by the SHA-256 of their secrets, ``keys_max`` at most.

    A secret belongs to one account. The worker of an account cannot know what those of others hold, so an operator may
    have given one to several: while more than one of them has not revoked it, nobody can tell who is to pay, and it is
    held as a revoked key that ``is_contested``. The claims are kept by account, since sequences of different accounts
    cannot be compared.
    """

    def __init__(self, keys_max: int) -> None:
        self._max = keys_max
        self._held: dict[str, tuple[Rank, Key]] = {}
        self._claims: dict[str, dict[str, tuple[Rank, Key]]] = {}
        """What each account says of a key that several have, or had."""

    def get(self, key_sha256: str) -> Key | None:
        """The key whose secret has this SHA-256."""
        held = self._held.get(key_sha256)
        return None if held is None else held[1]

    def put(self, record: KeyEntitlement) -> Outcome:
        """Takes in what an account says of a key."""
        name, rank, key = record.key_sha256, (record.sequence.epoch, record.sequence.counter), key_of(record)
        held, claims = self._held.get(name), self._claims.get(name)
        if claims is None and (held is None or held[1].account_id == key.account_id):
            return put(self._held, name, rank, key, self._room(len(self._held)))
        if claims is None:
            assert held is not None
            claims = {held[1].account_id: held}
        outcome = put(claims, key.account_id, rank, key, self._room(len(claims)))
        if outcome is Outcome.APPLIED:
            self._claims[name] = claims
            self._held[name] = rank, _agreed(claims)
        return outcome

    def _room(self, count: int) -> int:
        """How long a table of ``count`` keys may get."""
        more = sum(len(claims) - 1 for claims in self._claims.values()) if self._claims else 0
        return self._max - len(self._held) - more + count

    def drop(self, key_sha256: str) -> bool:
        """Forgets a key; returns whether it was there."""
        self._claims.pop(key_sha256, None)
        return self._held.pop(key_sha256, None) is not None


def _agreed(claims: dict[str, tuple[Rank, Key]]) -> Key:
    """The one key that is not revoked, else a revoked one."""
    keys = [key for _, (_, key) in sorted(claims.items())]
    live = [key for key in keys if not key.revoked]
    return live[0] if len(live) == 1 else keys[0]._replace(revoked=True, is_contested=bool(live))
