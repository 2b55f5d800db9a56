"""What a replay of past traffic under another catalogue says (requirements, section 7)."""

from typing import Annotated

from pydantic import Field

from .bounds import Count, CreditsMicro, EventId, OrganizationId, Record, Time
from .catalogue import Tier
from .limits import LimitName
from .outputs import Scope

BLOCKS_MAX = 10_000
"""So many blocks are told one by one, the first of each partition first; the sums hold all."""


class ReplayedBlock(Record):
    """A limit that closed for a scope: from when until when. ``ended_at`` is null where it still stood at the end;
    ``limit`` and ``observed`` are as of its first decision, in the units of ``Decision``."""

    organization_id: OrganizationId
    scope: Scope
    limit_name: LimitName
    limit: Count
    observed: Count
    began_at: Time
    ended_at: Time | None
    decision_id: EventId


class ReplayedLimit(Record):
    """All blocks of an organization and its keys by one limit: how many, and how long in all."""

    limit_name: LimitName
    blocks: Annotated[int, Field(ge=1)]
    blocked_ms: Count
    first_at: Time


class ReplayedOrganization(Record):
    """One organization between the two times. ``requests`` holds those that were answered 429 then (``throttled``),
    of which nobody knows what they would have cost.

    ``used_micro``, ``total_micro`` (null: no limit) and ``beyond_micro`` are of its account in the month at the end:
    what lies beyond the total is what a block on credits would have refused.
    """

    organization_id: OrganizationId
    account_id: OrganizationId
    tier: Tier
    requests: Count
    throttled: Count
    credits_micro: CreditsMicro
    used_micro: CreditsMicro
    total_micro: CreditsMicro | None
    beyond_micro: CreditsMicro
    blocked: tuple[ReplayedLimit, ...]


class ReplayReport(Record):
    """Who would have been blocked, when, by which limit and for how long, and what it would have cost."""

    plan_version: Annotated[int, Field(ge=1)]
    begins: Time
    ends: Time
    known_since: Time | None
    """The first usage that the replay has seen: credits and quotas used before it are not counted. None: none."""
    events: Count
    rejected: Count
    credits_micro: CreditsMicro
    blocks: Annotated[tuple[ReplayedBlock, ...], Field(max_length=BLOCKS_MAX)]
    blocks_left_out: Count
    organizations: tuple[ReplayedOrganization, ...]
