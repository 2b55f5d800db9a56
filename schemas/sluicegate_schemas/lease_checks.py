"""The bounds of a lease request, and which limits can be lent of."""

from typing import Final, NoReturn

from . import bounds
from .bounds import full_match
from .envelope import WireLeaseRequest
from .wire_checks import Malformed

LENT_LIMITS: Final = frozenset({"credits", "budget_day", "budget_month"})
"""The limits that can be held hard."""
_EVENT_ID: Final = full_match(bounds.EVENT_ID_PATTERN).match
_NAME: Final = full_match(bounds.NAME_PATTERN).match
_ORGANIZATION_ID: Final = full_match(bounds.ORGANIZATION_ID_PATTERN).match
_NAMES: Final = r"[A-Za-z0-9_-]{1,60}"
_SCOPE: Final = full_match(
    rf"^(?:(?:account|organization):org_{_NAMES}|key:key_{_NAMES}"
    rf"|label:org_{_NAMES}:[a-z][a-z0-9_]{{0,31}}=[A-Za-z0-9][A-Za-z0-9._:/@-]{{0,63}})$"
).match


def check_lease_request(request: WireLeaseRequest) -> None:
    """Raises Malformed, naming the field, unless ``request`` keeps every bound and pattern."""
    for field in ("request_id", "boot_id"):
        if _EVENT_ID(getattr(request, field)) is None:
            _invalid(field, "must be 1 to 128 letters, digits or ._:/+=@#~-")
    if _NAME(request.node) is None:
        _invalid("node", "must be 1 to 64 letters, digits or ._:/@-")
    for field in ("account_id", "org_id"):
        if _ORGANIZATION_ID(getattr(request, field)) is None:
            _invalid(field, "must be org_ and 1 to 60 letters, digits, _ or -")
    if request.limit_name not in LENT_LIMITS:
        _invalid("limit_name", f"knows only {', '.join(sorted(LENT_LIMITS))}")
    if _SCOPE(request.scope) is None:
        _invalid("scope", "must be the text of a scope that credits are lent in")
    if not 0 <= request.wanted_micro <= bounds.CREDITS_MICRO_MAX:
        _invalid("wanted_micro", f"must lie between 0 and {bounds.CREDITS_MICRO_MAX}")
    for field in ("needed_micro", "least_micro"):
        if not 0 <= getattr(request, field) <= request.wanted_micro:
            _invalid(field, "must lie between 0 and wanted_micro")
    if len(request.returned) > bounds.LEASES_RETURNED_MAX:
        _invalid("returned", f"must not be more than {bounds.LEASES_RETURNED_MAX}")
    for lease_id, used_micro in request.returned:
        if _EVENT_ID(lease_id) is None:
            _invalid("returned[...]", "must name a lease by 1 to 128 letters, digits or ._:/+=@#~-")
        if not 0 <= used_micro <= bounds.CREDITS_MICRO_MAX:
            _invalid("returned[...]", f"must be used between 0 and {bounds.CREDITS_MICRO_MAX}")


def _invalid(field: str, detail: str) -> NoReturn:
    raise Malformed("invalid", field, detail)
