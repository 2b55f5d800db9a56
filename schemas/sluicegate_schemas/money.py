"""Credits as people write them, exactly: at most six places, no exponent (requirements, sections 2 and 9)."""

import re

from .bounds import CREDITS_MICRO_MAX, MICRO_PER_CREDIT

_DECIMAL = re.compile(r"([0-9]{1,13})(?:\.([0-9]{1,6}))?\Z", re.ASCII)


def parse_credits(value: object) -> int:
    """Micro-credits of a whole number of credits (``5``) or of a decimal text (``"0.1"``); never of a float.

    Raises ValueError for anything else: negative, more than six places, an exponent, more than ``CREDITS_MICRO_MAX``.
    """
    if isinstance(value, float):
        raise ValueError('must be a whole number or a decimal in quotes, such as "0.1": a bare fraction is not exact')
    if isinstance(value, int) and not isinstance(value, bool):
        micro = value * MICRO_PER_CREDIT
    elif isinstance(value, str) and (match := _DECIMAL.match(value)):
        micro = int(match[1]) * MICRO_PER_CREDIT + int((match[2] or "").ljust(6, "0"))
    else:
        raise ValueError("must be a number of credits with at most six places")
    if not 0 <= micro <= CREDITS_MICRO_MAX:
        raise ValueError(f"must lie between 0 and {CREDITS_MICRO_MAX // MICRO_PER_CREDIT} credits")
    return micro


def credits_text(micro: int) -> str:
    """``micro`` as decimal credits for people and JSON: 45230, 0.1, -0.000001."""
    whole, part = divmod(abs(micro), MICRO_PER_CREDIT)
    sign = "-" if micro < 0 else ""
    return f"{sign}{whole}.{part:06d}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"
