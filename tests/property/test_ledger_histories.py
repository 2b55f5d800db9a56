"""Whatever happens to an account's credits in whatever order, over months' ends and owners' deaths: the books agree.

Used is the sum of what is rated, a breakdown sums to it, each source burns as the contract orders it and never below
nothing, what no source covers is overage, and a gate is closed exactly while everything is used.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stack.rating import month_of, month_span_ms
from streams.domain.grants import Grants
from streams.domain.settings import DomainSettings
from streams.domain.tables import GrantRow
from tests.domain_world import World, default_catalogue, key_put, organization_put, usage
from tests.grants import CREDIT, command, grant_put, grant_revoke, time_text
from tests.property.ledger_reference import DAY_MS, FOREVER, Gift, LedgerReference, month_before

END_MS = month_span_ms("2026-11")[1]
HOUR_MS = 3_600_000
PLANS: dict[str, int | None] = {"free": 1_000, "pro": 100_000, "team": 1_000_000, "enterprise": None}
STEPS_MS = (0, 0, 1, 1_000, HOUR_MS, 7 * HOUR_MS, DAY_MS, 5 * DAY_MS)
SPANS_MS = (1_000, HOUR_MS, 10 * HOUR_MS, 3 * DAY_MS, 40 * DAY_MS)
LAGS_MS = (0, 0, 0, 1_000, HOUR_MS, 23 * HOUR_MS, 30 * HOUR_MS, 5 * DAY_MS, -60_000)
Step = tuple[str, int, dict[str, Any]]
"""(what, how long after the step before, with what)."""

amounts = st.sampled_from([1, 7, 60, 300, 700, 1_000])
_STEPS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "spend": st.fixed_dictionaries({
        "name": st.sampled_from(["a", "sub"]), "amount": amounts, "lag_ms": st.sampled_from(LAGS_MS),
    }),
    "grant": st.fixed_dictionaries({
        "amount": amounts, "priority": st.sampled_from([0, 90, 100, 100, 200]),
        "from_ms": st.sampled_from([-DAY_MS, 0, 0, 1_000, HOUR_MS, 3 * DAY_MS]),
        "span_ms": st.sampled_from([None, *SPANS_MS]),
    }),
    "revoke": st.fixed_dictionaries({"which": st.integers(0, 3)}),
    "boost": st.fixed_dictionaries({"amount": amounts, "span_ms": st.sampled_from(SPANS_MS)}),
    "boost ends": st.just({}),
    "plan": st.fixed_dictionaries({
        "tier": st.sampled_from(list(PLANS)), "own": st.sampled_from([None, None, 0, 50, 1_500]),
    }),
    "pool": st.fixed_dictionaries({
        "cap": st.sampled_from([None, 50, 1_000]), "reserved": st.sampled_from([0, 0, 40, 500]),
    }),
    "correct": st.fixed_dictionaries({
        "amount": amounts, "direction": st.sampled_from(["charge", "charge", "credit"]),
        "months_back": st.integers(0, 2), "group": st.sampled_from(["search", "compute"]),
    }),
    "month ends": st.just({}),
    "takeover": st.just({}),
}  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    names = draw(st.lists(st.sampled_from(["spend", "spend", "spend", *_STEPS]), min_size=1, max_size=25))
    return [(name, draw(st.sampled_from(STEPS_MS)), draw(_STEPS[name])) for name in names]


class Both:
    """The machine and the reference, fed with the same history."""

    def __init__(self, tier: str, *, rolls_over: bool) -> None:
        catalogue = default_catalogue()
        plans = {name: plan.model_copy(update={"rollover": rolls_over}) for name, plan in catalogue.plans.items()}
        self.world = World(DomainSettings(months_kept=100), [catalogue.model_copy(update={"plans": plans})])
        self.world.log_time_ms = END_MS - 2 * DAY_MS
        self.world.obey(
            organization_put("org_a", tier), key_put("key_a", "org_a"),
            organization_put("org_sub", "enterprise", account_id="org_a"),
            key_put("key_sub", "org_sub", account_id="org_a"),
        )  # fmt: skip
        self.world.machine.advance(self.world.log_time_ms)
        self.reference = LedgerReference(self.world.log_time_ms, _micro(PLANS[tier]), rolls_over)
        self.reference.after()
        self.granted: list[str] = []
        self.number = 0
        self.cap: int | None = None
        self.reserved = 0

    def play(self, step: Step) -> None:
        name, wait_ms, more = step
        self.number += 1
        now_ms = self.world.log_time_ms + wait_ms
        if name == "month ends":
            now_ms = month_span_ms(month_of(now_ms))[1] + wait_ms
        self.world.log_time_ms = now_ms
        self.reference.pass_time(now_ms)
        getattr(self, f"_{name.replace(' ', '_')}")(now_ms, **more)
        self.reference.after()

    def _spend(self, now_ms: int, name: str, amount: int, lag_ms: int) -> None:
        ts_ms = now_ms - lag_ms
        event = usage(
            "documents.create", org=f"org_{name}", key=f"key_{name}", account="org_a", ts=ts_ms,
            quantities={"documents": amount},
        )  # fmt: skip
        self.world.send(event)
        self.reference.use(f"org_{name}", amount * CREDIT, month_of(ts_ms))

    def _grant(self, now_ms: int, amount: int, priority: int, from_ms: int, span_ms: int | None) -> None:
        name, since_ms = f"g{self.number}", now_ms + from_ms
        until_ms = None if span_ms is None else since_ms + span_ms
        self.granted.append(name)
        self.world.obey(grant_put(name, amount * CREDIT, since_ms, until_ms, priority))
        gift = Gift(("grant", name), amount * CREDIT, priority, since_ms, until_ms or FOREVER)
        if gift.until_ms > now_ms:
            self.reference.give(gift)

    def _revoke(self, now_ms: int, which: int) -> None:
        if which < len(self.granted):
            self.world.obey(grant_revoke(self.granted[which], command_id=f"c{self.number}"))
            self.reference.take_back(("grant", self.granted[which]))
        else:
            self.world.pass_time(now_ms)

    def _boost(self, now_ms: int, amount: int, span_ms: int) -> None:
        self.world.obey(
            command(
                "boost.put", f"c{self.number}", organization_id="org_a", boost_id="b", credits_micro=amount * CREDIT,
                effective_at=time_text(now_ms), until=time_text(now_ms + span_ms),
            )
        )  # fmt: skip
        self.reference.give(Gift(("boost", "org_a:b"), amount * CREDIT, 100, now_ms, now_ms + span_ms))

    def _boost_ends(self, now_ms: int) -> None:
        ended = [one for one in self.reference.gifts if one.name[0] == "boost" and one.until_ms > now_ms]
        self.world.obey(command("boost.end", f"c{self.number}", organization_id="org_a", boost_id="b"))
        for gift in ended:
            self.reference.take_back(gift.name)

    def _plan(self, now_ms: int, tier: str, own: int | None) -> None:
        fields = {} if own is None else {"credits_micro_per_month": own * CREDIT}
        self.world.obey(organization_put("org_a", tier, f"c{self.number}", **fields))
        self.reference.change_plan(_micro(PLANS[tier] if own is None else own))

    def _pool(self, now_ms: int, cap: int | None, reserved: int) -> None:
        self.cap, self.reserved = _micro(cap), min(reserved, reserved if cap is None else cap) * CREDIT
        pool = {"cap_micro": self.cap, "reserved_micro": self.reserved}
        self.world.obey(organization_put("org_sub", "enterprise", f"c{self.number}", account_id="org_a", pool=pool))

    def _correct(self, now_ms: int, amount: int, direction: str, months_back: int, group: str) -> None:
        month = month_of(now_ms)
        for _ in range(months_back):
            month = month_before(month)
        self.world.obey(
            command(
                "correction.put", f"c{self.number}", organization_id="org_a", month=month, direction=direction,
                credits_micro=amount * CREDIT, breakdown=group,
            )
        )  # fmt: skip
        if direction == "charge":
            self.reference.use("org_a", amount * CREDIT, month)
        else:
            end_ms = month_span_ms(month_of(now_ms))[1]
            self.reference.give(Gift(("correction", f"c{self.number}"), amount * CREDIT, 0, now_ms, end_ms))

    def _month_ends(self, now_ms: int) -> None:
        self.world.pass_time(now_ms)

    def _takeover(self, now_ms: int) -> None:
        self.world.pass_time(now_ms)
        self.world.take_over()

    # ---- what must hold ----

    def check(self) -> None:
        world, reference = self.world, self.reference
        for (organization, month), micro in reference.used.items():
            assert world.used("organization", organization, month) == micro
        for month, book in reference.books.items():
            if book.used:
                assert world.used("account", "org_a", month) == book.used
        rated = sum(cell.credits_micro for cell in world.cells.values())
        assert rated == sum(reference.used.values())
        book, key = reference.books.get(reference.month), f"l|account|org_a|{reference.month}".encode()
        if book is not None and key in world.rows:
            assert world.ledger("account", "org_a", reference.month).total_micro == book.total
            must_block = book.total is not None and book.used >= book.total
            if book.used or not must_block:
                assert self._is_blocked("account:org_a") == must_block
        if self._is_blocked("organization:org_sub"):
            assert self._left_of_sub() <= 0
        for payload in (payload for row, payload in world.rows.items() if row[:2] == b"j|"):
            grant = msgspec.msgpack.decode(payload, type=GrantRow)
            assert 0 <= grant.burned_micro <= grant.credits_micro

    def _is_blocked(self, scope: str) -> bool:
        row = self.world.standing().get(f"credits:{scope}")
        return row is not None and row.verdict == "block" and (row.until_ms or 0) > self.world.log_time_ms

    def _left_of_sub(self) -> int:
        used = self.reference.used.get(("org_sub", self.reference.month), 0)
        return FOREVER if self.cap is None else self.cap - used

    def check_settled(self) -> None:
        """Puts nothing off any longer: each source has burned what it must have."""
        self.world.machine.ledgers.settle("org_a")
        self.world.flush()
        reference = self.reference
        for month, book in reference.books.items():
            if not book.used or month > reference.month:
                continue
            row = self.world.ledger("account", "org_a", month)
            assert row.granted_burned_micro == book.by_gifts, month
            overage = 0 if row.total_micro is None else max(0, row.used_micro - row.total_micro)
            assert overage == book.overage, month
        burned = {
            tuple(key.decode().split("|")[1::2]): row.credits_micro - row.burned_micro
            for key, row in (
                (key, msgspec.msgpack.decode(payload, type=GrantRow))
                for key, payload in self.world.rows.items()
                if key[:2] == b"j|"
            )
        }
        grants = next(one for one in self.world.machine.participants.all if isinstance(one, Grants))
        assert grants.sizes() == {"grants": len(burned)}
        for gift in reference.gifts:
            if gift.left and gift.is_alive(reference.now_ms):
                assert burned[gift.name] == gift.left, gift


def _micro(credits_: int | None) -> int | None:
    return None if credits_ is None else credits_ * CREDIT


@pytest.mark.contract("9.10", "9.11", "9.12", "9.13")
@given(histories(), st.sampled_from(["free", "pro", "enterprise"]), st.booleans())
@settings(max_examples=150, deadline=None)
@example([("spend", 0, {"name": "a", "amount": 1, "lag_ms": -60_000})], "free", False)
def test_no_order_of_what_can_happen_to_credits_breaks_the_books(
    steps: Sequence[Step], tier: str, rolls_over: bool
) -> None:
    both = Both(tier, rolls_over=rolls_over)
    for step in steps:
        both.play(step)
        both.check()
    both.check_settled()
