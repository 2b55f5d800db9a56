"""Values as people write them on a command line, each read once; what is wrong is a ConfigurationError that names the
option and says what it may be."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from sluicegate_schemas.bounds import from_epoch_ms, parse_time
from sluicegate_schemas.money import parse_credits

from ..errors import ConfigurationError

_DURATION: Final = re.compile(r"([+-]?)([0-9]{1,6})([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_INTEGER: Final = re.compile(r"[0-9](?:_?[0-9]){0,17}", re.ASCII)
_MONTH: Final = re.compile(r"20[2-9][0-9]-(0[1-9]|1[0-2])\Z", re.ASCII)
_UNLIMITED: Final = "unlimited"


def check_month(option: str, text: str | None) -> None:
    """Whether ``text`` is a month, ``2026-01``, or not given."""
    if text is not None and not _MONTH.match(text):
        raise ConfigurationError(f"{option} must be YYYY-MM")


def credits_micro(option: str, text: str) -> int:
    """Micro-credits of ``250``, ``250_000`` or ``0.1`` credits."""
    try:
        return parse_credits(text.replace("_", "") if _INTEGER.fullmatch(text) else text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from None


def optional_credits_micro(option: str, text: str | None) -> int | None:
    """The same; None where it is not given."""
    return None if text is None else credits_micro(option, text)


def when(option: str, text: str, now: datetime, *, unsigned: int = 1) -> datetime:
    """An instant: ``now``, a date (00:00 UTC), an RFC 3339 time, or a time from now such as ``+7d`` and ``-15m``; one
    without a sign is that of ``unsigned``."""
    if text == "now":
        return now
    if match := _DURATION.fullmatch(text):
        sign = {"+": 1, "-": -1, "": unsigned}[match[1]]
        return now + sign * timedelta(seconds=int(match[2]) * _SECONDS[match[3]])
    try:
        return from_epoch_ms(parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text))
    except ValueError:
        raise ConfigurationError(
            f"{option} must be a time: 2026-01-31, 2026-01-31T12:00:00Z, now, +7d or -15m (s, m, h, d)"
        ) from None


def whole(option: str, text: str) -> int:
    """A whole number, perhaps with ``_`` between its digits."""
    if not _INTEGER.fullmatch(text):
        raise ConfigurationError(f"{option} must be a whole number")
    return int(text)


def rates(option: str, text: str | None) -> dict[str, int] | None:
    """Request limits written as ``requests a second/burst/requests a minute``: ``100/200/600``."""
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) != 3:
        raise ConfigurationError(f"{option} must be requests a second/burst/requests a minute, such as 100/200/600")
    names = ("requests_per_second", "burst", "requests_per_minute")
    return {name: whole(option, part) for name, part in zip(names, parts, strict=True)}


def table(option: str, given: Iterable[str] | None, read: Callable[[str, str], Any]) -> dict[str, Any] | None:
    """``name=value`` options as a table; None where none is given."""
    found: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"{option} must be name=value")
        if name in found:
            raise ConfigurationError(f"{option} gives one name twice")
        found[name] = read(option, value)
    return found or None


def count_or_none(option: str, text: str) -> int | None:
    """A quota: a whole number, or ``unlimited``."""
    return None if text == _UNLIMITED else whole(option, text)


def feature(option: str, text: str) -> object:
    """A feature: ``true``, ``false``, a whole number, a word, or several words with commas."""
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return whole(option, text)
    return text.split(",") if "," in text else text


def failure_mode(option: str, text: str) -> dict[str, object]:
    """``open``, ``closed`` or ``allowance:PERCENT``."""
    mode, colon, percent = text.partition(":")
    return {"mode": mode, "allowance_percent": whole(option, percent)} if colon else {"mode": mode}
