"""The bounds of a gauge: what a node says of the requests that it serves."""

from typing import Final

from . import bounds
from .bounds import full_match
from .envelope import WireGauge, WireInFlight
from .wire_checks import Malformed

GAUGE_ORGANIZATIONS_MAX: Final = 100
GAUGE_SUBJECTS_MAX: Final = 100
"""Of all organizations of one gauge together."""
GAUGE_TTL_MS_MIN: Final = 1_000
GAUGE_TTL_MS_MAX: Final = 60_000
IN_FLIGHT_MAX: Final = 1_000_000

_NAME: Final = full_match(bounds.NAME_PATTERN).match
_EVENT_ID: Final = full_match(bounds.EVENT_ID_PATTERN).match
_OPERATION: Final = full_match(bounds.OPERATION_PATTERN).match
_ORGANIZATION_ID: Final = full_match(bounds.ORGANIZATION_ID_PATTERN).match


def check_gauge(gauge: WireGauge) -> None:
    """Raises Malformed, naming the field, unless ``gauge`` keeps every bound and pattern; an organization or subject
    that is named twice is refused."""
    for field, text in (("node", gauge.node), ("boot_id", gauge.boot_id)):
        if _NAME(text) is None:
            raise Malformed("invalid", field, "must be 1 to 64 letters, digits or ._:/@-")
    if not 0 <= gauge.sequence <= 2**63 - 1:
        raise Malformed("invalid", "sequence", f"must lie between 0 and {2**63 - 1}")
    if not GAUGE_TTL_MS_MIN <= gauge.ttl_ms <= GAUGE_TTL_MS_MAX:
        raise Malformed("invalid", "ttl_ms", f"must lie between {GAUGE_TTL_MS_MIN} and {GAUGE_TTL_MS_MAX}")
    if _ORGANIZATION_ID(gauge.account_id) is None:
        raise Malformed("invalid", "account_id", "must be org_ and 1 to 60 letters, digits, _ or -")
    organizations = gauge.organizations
    if len(organizations) > GAUGE_ORGANIZATIONS_MAX:
        raise Malformed("invalid", "organizations", f"must not be more than {GAUGE_ORGANIZATIONS_MAX}")
    if len({one.org_id for one in organizations}) != len(organizations):
        raise Malformed("invalid", "organizations", "names an organization twice")
    if sum(len(one.subjects) for one in organizations) > GAUGE_SUBJECTS_MAX:
        raise Malformed("invalid", "organizations[...].subjects", f"must not be more than {GAUGE_SUBJECTS_MAX} in all")
    for at, one in enumerate(organizations):
        _check_in_flight(one, f"organizations[{at}]")


def _check_in_flight(one: WireInFlight, place: str) -> None:
    if _ORGANIZATION_ID(one.org_id) is None:
        raise Malformed("invalid", f"{place}.org_id", "must be org_ and 1 to 60 letters, digits, _ or -")
    if not 0 <= one.in_flight <= IN_FLIGHT_MAX:
        raise Malformed("invalid", f"{place}.in_flight", f"must lie between 0 and {IN_FLIGHT_MAX}")
    if len({subject[:2] for subject in one.subjects}) != len(one.subjects):
        raise Malformed("invalid", f"{place}.subjects", "names a subject twice")
    for operation, subject, count in one.subjects:
        if _OPERATION(operation) is None:
            raise Malformed("invalid", f"{place}.subjects", "an operation must be lower-case words joined by points")
        if _EVENT_ID(subject) is None:
            raise Malformed("invalid", f"{place}.subjects", "a subject must be 1 to 128 letters, digits or ._:/+=@#~-")
        if not 1 <= count <= IN_FLIGHT_MAX:
            raise Malformed("invalid", f"{place}.subjects", f"a count must lie between 1 and {IN_FLIGHT_MAX}")
