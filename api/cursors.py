"""Cursors: where the next page begins, as one word that callers hand back unread (base64url, no secret in it)."""

import base64
import binascii
import re
from typing import Final

from .problems import ProblemError

_PART: Final = re.compile(r"(?:[A-Za-z0-9._:/+=@#~-]{0,128}|…)\Z", re.ASCII)
"""A name as all have them, or that of the labels that are not told apart."""
_NUMBER: Final = re.compile(r"[0-9]{1,16}\Z", re.ASCII)
CURSOR_SIGNS_MAX: Final = 400


def cursor(number: int, name: str) -> str:
    """The place behind the entry (``number``, ``name``)."""
    return base64.urlsafe_b64encode(f"{number}|{name}".encode()).decode("ascii").rstrip("=")


def place(text: str) -> tuple[int, str]:
    """What ``cursor`` was made of. Raises ProblemError: 422."""
    try:
        plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        plain = ""
    number, found, name = plain.partition("|")
    if not found or not _NUMBER.match(number) or not _PART.match(name):
        raise ProblemError(422, "The cursor is none that this API gave out.")
    return int(number), name
