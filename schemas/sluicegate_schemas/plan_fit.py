"""What an organization's past use would have come to on each plan (requirements, section 7)."""

from .bounds import Count, CreditsMicro, Month, OrganizationId, Record, Time
from .catalogue import Tier


class PlanFit(Record):
    """What the use would have come to on the plan of ``tier``.

    ``total_micro`` is what one month holds (null: no limit), ``beyond_micro`` what was used beyond it, which a block
    would have refused, ``ran_out_at`` the hour in which that began. Of the ``requests``, at least ``throttled`` would
    have been answered 429 by a key's limits per minute.
    """

    tier: Tier
    used_micro: CreditsMicro
    total_micro: CreditsMicro | None
    beyond_micro: CreditsMicro
    ran_out_at: Time | None
    requests: Count
    throttled: Count


class PlanFits(Record):
    """An organization's month on each plan of a version of the catalogue."""

    organization_id: OrganizationId
    month: Month
    plan_version: int
    fits: tuple[PlanFit, ...]
