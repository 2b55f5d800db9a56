"""Recovered rows on their way back into the tables that wrote them."""

import inspect
from collections.abc import Callable
from functools import cache
from types import MethodType
from typing import Any, TypeVar, cast

import msgspec

_RowT = TypeVar("_RowT", bound=msgspec.Struct)


@cache
def _parameters(function: Callable[..., object]) -> int:
    return len(inspect.signature(function).parameters)


def by_names(take: Callable[..., None]) -> Callable[[bytes, Any], None]:
    """The method ``take(name, …, row)`` as a taker of (row key, row), which raises ValueError for a key of other
    names."""
    count = _parameters(cast(MethodType, take).__func__) - 2  # without self and the row

    def take_row(key: bytes, row: msgspec.Struct) -> None:
        _, *names = key.decode().split("|")
        if len(names) != count:
            raise ValueError(f"its key has {len(names)} names, not {count}")
        take(*names, row)

    return take_row


class Recovery:
    """Which table a row key belongs to, how its rows are read, and who takes them."""

    def __init__(self) -> None:
        self._tables: dict[bytes, tuple[Callable[[bytes], msgspec.Struct], Callable[[bytes, Any], None]]] = {}

    def add(self, letter: str, row: type[_RowT], take: Callable[[bytes, _RowT], None]) -> None:
        """Rows of the table ``letter`` go to ``take`` with their key. A table has one owner."""
        assert letter.encode() not in self._tables, f"the table {letter} has an owner"
        self._tables[letter.encode()] = msgspec.msgpack.Decoder(row).decode, take

    def restore(self, key: bytes, payload: bytes) -> None:
        """Hands on one row. Raises ValueError for an unknown table or a damaged payload."""
        letter = key.partition(b"|")[0]
        table = self._tables.get(letter)
        if table is None:
            raise ValueError(
                f"the state has a row of table {letter!r}: a newer worker wrote it, this one can't read it"
            )
        decode, take = table
        try:
            row = decode(payload)
            take(key, row)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ValueError(f"a row of table {letter.decode()} can't be read: {error}") from error
