"""The HTTP bodies of refused requests (requirements, section 3)."""

from typing import Annotated, Literal

from pydantic import Field

from .bounds import Count, EventId, Record
from .catalogue import Tier

Whole = Annotated[int, Field(ge=0)]


class RateLimitDetails(Record):
    """``limit`` requests in ``window``; ``retry_after`` in seconds, at least 1."""

    limit: Whole
    window: Annotated[str, Field(pattern=r"^[1-9][0-9]*[smhd]$")]
    retry_after: Annotated[int, Field(ge=1)]
    scope: str | None = None
    limit_name: str | None = None
    decision_id: EventId | None = None


class QuotaDetails(Record):
    """``current`` and ``limit`` in the resource's unit; credits as whole or decimal credits, see ``credits_text``."""

    resource: str
    current: Count | float
    limit: Count | float
    tier: Tier
    reset_date: str | None = None
    scope: str | None = None
    limit_name: str | None = None
    decision_id: EventId | None = None


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


class AccessError(Record):
    """The ``error`` of a 401 for a missing, unknown or revoked key, and of a 503 while the gate knows no keys yet."""

    message: str
    type: Literal["AuthenticationError", "ServiceUnavailableError"]
    details: PlainDetails = PlainDetails()


class ErrorBody(Record):
    """What every refused request answers."""

    success: Literal[False] = False
    status: Annotated[int, Field(ge=400, le=599)]
    error: RateLimitError | QuotaError | AccessError
