"""The bounds and name types that every record shares.

Identifiers use narrow ASCII alphabets without ``|`` and ``:``, so that keys joined by those signs are unambiguous and
no NUL, control sign, look-alike letter or direction mark can hide in one (requirements, section 8).
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
)

MICRO_PER_CREDIT: Final = 1_000_000
QUANTITY_MAX: Final = 10**15
"""Largest quantity of one event; below 2**53, so that any JSON client keeps it exact."""
CREDITS_MICRO_MAX: Final = 10**18
"""Largest credit amount, in micro-credits; below 2**63, ClickHouse's Int64."""
EVENT_BYTES_MAX: Final = 64 * 1024
"""Largest JSON event or CloudEvent."""
ENVELOPE_BYTES_MAX: Final = 1_000_000
"""Largest envelope; a record above it is rejected unread."""
RECORD_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest record that the broker accepts on the usage topic, so that an oversized one can be rejected by name."""
ENVELOPE_EVENTS_MAX: Final = 500
CHARGES_MAX: Final = 16
LABELS_MAX: Final = 8
RESOURCE_DELTAS_MAX: Final = 8
LEASES_MAX: Final = 1 + 2 * (1 + 1 + LABELS_MAX)
"""Leases that one event may name: one for each hard limit that may cover it. Those are its account's credits, and a
day's and a month's budget of its organization, of its key, and of each of its labels."""
LEASES_RETURNED_MAX: Final = 32
"""Leases that one request may give back."""
DURATION_MS_MAX: Final = 31 * 86_400_000
EPOCH_MS_MIN: Final = 1_577_836_800_000
"""2020-01-01T00:00:00Z."""
EPOCH_MS_MAX: Final = 4_102_444_800_000
"""2100-01-01T00:00:00Z."""
CLOCK_AHEAD_MS_MAX: Final = 5 * 60_000
"""How far an event's time may lie ahead of the broker's (requirements, section 9)."""
CLOCK_BEHIND_MS_MAX: Final = 7 * 86_400_000
"""How far an event's time may lie behind the broker's (requirements, section 9)."""

ORGANIZATION_ID_PATTERN: Final = r"^org_[A-Za-z0-9_-]{1,60}$"
API_KEY_ID_PATTERN: Final = r"^key_[A-Za-z0-9_-]{1,60}$"
EVENT_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/+=@#~-]{0,127}$"
OPERATION_PATTERN: Final = r"^[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){0,2}$"
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,63}$"
LABEL_NAME_PATTERN: Final = r"^[a-z][a-z0-9_]{0,31}$"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}$"

OrganizationId = Annotated[str, StringConstraints(pattern=ORGANIZATION_ID_PATTERN)]
AccountId = OrganizationId
"""The organization that pays; equal to the organization unless credits are pooled (requirements, section 1)."""
ApiKeyId = Annotated[str, StringConstraints(pattern=API_KEY_ID_PATTERN)]
EventId = Annotated[str, StringConstraints(pattern=EVENT_ID_PATTERN)]
Operation = Annotated[str, StringConstraints(pattern=OPERATION_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A model, node, subject, producer or person: one word of 1 to 64 signs."""
LabelName = Annotated[str, StringConstraints(pattern=LABEL_NAME_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
Sentence = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Free text without control signs."""
Quantity = Annotated[int, Field(ge=0, le=QUANTITY_MAX)]
CreditsMicro = Annotated[int, Field(ge=0, le=CREDITS_MICRO_MAX)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
EpochMs = Annotated[int, Field(ge=EPOCH_MS_MIN, lt=EPOCH_MS_MAX)]
MONTH_PATTERN: Final = r"^20[2-9][0-9]-(0[1-9]|1[0-2])$"
Month = Annotated[str, StringConstraints(pattern=MONTH_PATTERN)]


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-5][0-9])"
).fullmatch


_MINUTES_MAX: Final = 256
_MINUTES_MS: Final[dict[str, int]] = {}
_SECONDS_MS: Final = {f"{second:02d}": second * 1_000 for second in range(60)}
_FRACTIONS_MS: Final = {
    "Z": 0,
    **{f".{millisecond:03d}{more}Z": millisecond for millisecond in range(1_000) for more in ("", "000")},
}


def to_epoch_ms(value: datetime) -> int:
    """Whole milliseconds since 1970-01-01T00:00:00Z, rounded down. ``value`` must carry a zone."""
    return (value - _EPOCH) // _MILLISECOND


def from_epoch_ms(value: int) -> datetime:
    """The instant ``value`` milliseconds after 1970-01-01T00:00:00Z, in UTC."""
    return _EPOCH + value * _MILLISECOND


@lru_cache(256)
def _second_text(second: int) -> str:
    return from_epoch_ms(second * 1_000).isoformat()[:19]


def time_text(value: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC, as records have it: without a fraction, or with six places of one."""
    second, millisecond = divmod(value, 1_000)
    return f"{_second_text(second)}.{millisecond:03d}000Z" if millisecond else f"{_second_text(second)}Z"


def parse_time(text: str) -> int:
    """Epoch milliseconds, rounded down, of an RFC 3339 time in capitals: ``2026-01-31T23:59:59.123456789+01:00``.

    Raises ValueError for anything else (no zone, a leap second, more than nine places) and outside 2020 to 2099.
    """
    try:  # most times lie in few minutes, so the last ones are remembered
        return _MINUTES_MS[text[:17]] + _SECONDS_MS[text[17:19]] + _FRACTIONS_MS[text[19:]]
    except KeyError:
        pass
    if _RFC_3339(text) is None:
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-01-31T23:59:59.123Z")
    time_ms = _parse_in_full(text)
    if text[19:] in _FRACTIONS_MS:
        if len(_MINUTES_MS) >= _MINUTES_MAX:
            _MINUTES_MS.clear()
        _MINUTES_MS[text[:17]] = time_ms // 60_000 * 60_000
    return time_ms


def _parse_in_full(text: str) -> int:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time that exists") from None
    return _checked_epoch_ms(value)


def _checked_epoch_ms(value: datetime) -> int:
    epoch_ms = to_epoch_ms(value)
    if not EPOCH_MS_MIN <= epoch_ms < EPOCH_MS_MAX:
        raise ValueError("must lie between 2020-01-01 and 2100-01-01")
    return epoch_ms


def _read_text(value: object, info: ValidationInfo) -> object:
    return from_epoch_ms(parse_time(value)) if isinstance(value, str) and info.mode == "json" else value


def _to_millisecond(value: datetime) -> datetime:
    return from_epoch_ms(_checked_epoch_ms(value))


Time = Annotated[AwareDatetime, BeforeValidator(_read_text), AfterValidator(_to_millisecond)]
"""An instant with its zone, RFC 3339 in JSON; held in UTC, rounded down to the millisecond."""


class Record(BaseModel):
    """A strict, frozen record: unknown fields, coerced types, NaN and infinities are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def full_match(pattern: str) -> re.Pattern[str]:
    """``pattern``, written with ``^…$`` for JSON Schema, compiled so that a trailing newline does not pass."""
    return re.compile(pattern.removesuffix("$") + r"\Z")
