"""Where the next page of a look begins, as one word that callers hand back unread (base64url of JSON)."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

from fastapi import Query

from ...problems import FieldProblem, ProblemError

Cursor = Annotated[str | None, Query(max_length=2_048, pattern=r"^[A-Za-z0-9_-]+$", description="``next`` of a page")]


def log_cursor(before: Mapping[int, int]) -> str | None:
    """The place of a page of a log: below these offsets, by partition; None where there is no further one."""
    return _written({str(number): offset for number, offset in before.items()}) if before else None


def log_place(cursor: str | None) -> dict[int, int] | None:
    """What ``log_cursor`` was made of. Raises ProblemError: 422."""
    if cursor is None:
        return None
    try:
        before = {int(number): offset for number, offset in _read(cursor).items()}
    except (ValueError, AttributeError):
        _refuse()
    if not all(type(offset) is int and 0 <= offset < 2**63 for offset in before.values()):
        _refuse()
    return before


def name_cursor(parts: tuple[str, ...]) -> str:
    """The place behind the entry of that name."""
    return _written(parts)


def name_place(cursor: str | None) -> tuple[str, ...]:
    """What ``name_cursor`` was made of, empty for the beginning. Raises ProblemError: 422."""
    if cursor is None:
        return ()
    read = _read(cursor)
    if not isinstance(read, list) or not all(isinstance(part, str) for part in read):
        _refuse()
    return tuple(read)


def _written(place: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _read(cursor: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        _refuse()


def _refuse() -> NoReturn:
    fields = [FieldProblem(field="query.cursor", message="must be the next of a page")]
    raise ProblemError(422, "A field is not what it must be.", fields=fields) from None
