"""Text for a terminal: what came from topics or files can neither move its cursor nor colour, hide or reverse it."""

from datetime import datetime
from typing import Final

from sluicegate_schemas.money import credits_text

_SHOWN_MAX: Final = 2_000


def plain(text: str) -> str:
    """``text`` on one line with every sign that is not printable (control, format, direction, surrogate) escaped."""
    shown = text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in shown)


def _escaped(sign: str) -> str:
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def ascii_json(text: str) -> str:
    """JSON as ``json.dumps`` writes it, also without DEL, the one control sign that JSON leaves alone."""
    return text.replace("\x7f", "\\u007f")


def time_text(at: datetime | None) -> str:
    """An instant to the millisecond in UTC; "-" for none."""
    return "-" if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def amount(limit_name: str, value: int | None) -> str:
    """A figure of a limit as people read it: credits for money, else the number; "unlimited" for none."""
    if value is None:
        return "unlimited"
    return f"{credits_text(value)} credits" if limit_name in ("credits", "budget_day", "budget_month") else f"{value:,}"
