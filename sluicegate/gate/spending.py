"""Whether a request costs credits, and how much at most."""

from collections.abc import Sequence

from ..follower.entries import Verdict
from .answer import Admission
from .reserve import Spend
from .verdicts import MONEY


def spends(admission: Admission) -> bool:
    """Whether the request costs credits: test keys spend none (unless the plan says so), and what is known
    before the gate to be a cache hit, itself or a charge, costs none (requirements, section 9)."""
    key, terms, asked, _ = admission
    if asked.cached or (key.mode == "test" and not terms.test_keys_spend):
        return False
    if terms.priced.costs:
        return True
    return any(
        terms.card.priced(one if isinstance(one, str) else one.operation).costs
        for one in asked.charges
        if isinstance(one, str) or not one.cached
    )


def spend_of(admission: Admission, verdicts: Sequence[Verdict]) -> Spend:
    """Its worst case, and the ``verdicts`` on what has to pay for it, but for what needs a lease.

    Only a verdict with an end tells what is used of an amount until then; one without says no more than that nothing is
    blocked.
    """
    key, terms, asked, _ = admission
    if asked is terms.plain:
        worst_micro = terms.priced.plain_worst_micro
    else:
        worst_micro = sum(terms.card.priced(one.operation).worst_micro(one) for one in asked.all_charges())
    said = [verdict for verdict in verdicts if verdict.limit_name in MONEY and verdict.record_key not in terms.lent]
    money = [verdict for verdict in said if verdict.until_ms is not None]
    plans = terms.credits_of_plan
    if plans is not None and not any(one.limit_name == "credits" and one.scope == plans.scope for one in said):
        money.append(plans)
    return Spend(key, terms.organization, asked, terms.priced.category, worst_micro, money)
