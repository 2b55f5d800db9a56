"""The usual request, prepared: a key and an operation of which nothing more is said, and that nothing stands against.

All that does not change from one such request to the next is found once, and kept until something changes that concerns
the key, its organization or who pays, or the time for which it holds is over. What is prepared here admits or says
nothing: a request that it does not admit is answered in full.
"""

from collections.abc import Sequence
from typing import Final

from ..follower.entries import Verdict
from ..follower.view import View
from . import firing
from .answer import Admission
from .spending import spend_of, spends

PREPARED_MAX: Final = 50_000
"""Keys and operations that are kept prepared; beyond it all are prepared anew."""


class Prepared:
    """What a request of one key and operation is answered from: by ``view`` as it was after so many ``changes`` of what
    concerns it, and from ``from_ms`` on until ``until_ms``."""

    __slots__ = (
        "admission", "api_key_id", "buckets", "changes", "concurrency", "from_ms", "of_account", "of_key",
        "of_organization", "of_secret", "organization_id", "paid_by", "policy", "until_ms", "view",
    )  # fmt: skip

    def __init__(self, view: View, key_sha256: str, admission: Admission, from_ms: int, until_ms: int) -> None:
        key, terms, _, spend = admission
        self.view = view
        everybodys = view.stamps.changes  # first: where a stamp below makes the others count no more, this is void
        self.of_secret = view.stamps.of(key_sha256)
        self.of_key = view.stamps.of(key.api_key_id)
        self.of_organization = view.stamps.of(key.organization_id)
        self.of_account = view.stamps.of(key.account_id)
        of_them = self.of_secret, self.of_key, self.of_organization, self.of_account
        self.changes = everybodys + sum(stamp.changes for stamp in of_them)
        self.admission = admission
        self.from_ms = from_ms
        self.until_ms = until_ms
        self.api_key_id = key.api_key_id
        self.organization_id = key.organization_id
        self.buckets = terms.buckets
        self.policy = terms.policy
        self.concurrency = terms.concurrency
        self.paid_by = () if spend is None else tuple(verdict.record_key for verdict in spend.verdicts)
        """The record keys of the soft limits that have to pay for it."""


def prepare(
    view: View, key_sha256: str, admission: Admission, verdicts: Sequence[Verdict], now_ms: int
) -> Prepared | None:
    """``admission``, of a request of which only the operation is known, made ready from ``now_ms`` on; ``verdicts`` are
    those about it. None where each such request has to be looked at."""
    terms = admission.terms
    costs = spends(admission)
    if (
        not terms.buckets
        or terms.priced.quantity is not None
        or (costs and terms.is_hard)
        or any(verdict.blocks or verdict.limit_name == "concurrency" for verdict in verdicts)
        or firing.amounts(verdicts, admission)
    ):
        return None
    if costs and (verdicts or terms.credits_of_plan is not None):
        admission = admission._replace(spend=spend_of(admission, verdicts))
    ends_ms = [verdict.until_ms for verdict in verdicts if verdict.until_ms is not None]
    return Prepared(view, key_sha256, admission, now_ms, min([view.catalogue_until_ms(now_ms), *ends_ms]))
