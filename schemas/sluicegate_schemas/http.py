"""The HTTP bodies of refused requests (requirements, section 3)."""

from typing import Annotated, Literal

from pydantic import Field

from .bounds import Count, EventId, Record
from .catalogue import Tier
from .limits import LimitName

Whole = Annotated[int, Field(ge=0)]


class FiredLimit(Record):
    """One of the limits that refused a request, in the unit of ``limit_name``; null where it is not known."""

    limit_name: LimitName
    scope: str
    limit: Count | float
    current: Count | float | None = None
    clears_at: str | None = None
    """When it clears by itself (RFC 3339); null: not by time."""
    decision_id: EventId | None = None


FiredLimits = Annotated[tuple[FiredLimit, ...], Field(min_length=2, max_length=64)]
"""Where more than one refused, all of them: the one that clears last first."""


class RateLimitDetails(Record):
    """``limit`` requests in ``window``, or at a time where there is no window; ``retry_after`` in seconds, at least
    1."""

    limit: Whole
    window: Annotated[str, Field(pattern=r"^[1-9][0-9]*[smhd]$")] | None = None
    retry_after: Annotated[int, Field(ge=1)]
    scope: str | None = None
    limit_name: str | None = None
    decision_id: EventId | None = None
    limits: FiredLimits | None = None


class QuotaDetails(Record):
    """``current`` and ``limit`` in the resource's unit; credits as whole or decimal credits, see ``credits_text``.

    ``current`` is absent where the request alone asks for more than the limit, or the count is not known; ``requested``
    is how many it would add, ``reserved`` what requests that still run hold back.
    """

    resource: str
    current: Count | float | None = None
    limit: Count | float
    requested: Count | None = None
    reserved: Count | float | None = None
    tier: Tier
    reset_date: str | None = None
    scope: str | None = None
    limit_name: str | None = None
    decision_id: EventId | None = None
    limits: FiredLimits | None = None


class RequestDetails(Record):
    """More of something than one request may ask for."""

    limit: Count
    requested: Count
    limit_name: str
    limits: FiredLimits | None = None


class PlainDetails(Record):
    """Details of an error that is neither: the field or header that it is about."""

    field: str | None = None


class RateLimitError(Record):
    """The ``error`` of a 429."""

    message: str
    type: Literal["TooManyRequestsError"] = "TooManyRequestsError"
    details: RateLimitDetails


class QuotaError(Record):
    """The ``error`` of a 403 for a quota or for credits."""

    message: str
    type: Literal["QuotaExceededError"] = "QuotaExceededError"
    details: QuotaDetails


class RequestError(Record):
    """The ``error`` of a 400."""

    message: str
    type: Literal["BadRequestError"] = "BadRequestError"
    details: RequestDetails


class AccessError(Record):
    """The ``error`` of a 401 for a missing, unknown or revoked key, and of a 503 while the gate knows no keys yet."""

    message: str
    type: Literal["AuthenticationError", "ServiceUnavailableError"]
    details: PlainDetails = PlainDetails()


class ErrorBody(Record):
    """What every refused request answers."""

    success: Literal[False] = False
    status: Annotated[int, Field(ge=400, le=599)]
    error: RateLimitError | QuotaError | RequestError | AccessError
