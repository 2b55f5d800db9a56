"""What is kept of grants is in their rows: a new owner burns as the old one would have."""

from tests.domain_world import World, small_world, usage
from tests.grants import CREDIT, grant_put, grant_revoke
from tests.unit.test_grants import HOUR_MS, MONTH_END_MS


def test_when_the_last_grant_was_taken_back_a_takeover_makes_no_difference() -> None:
    def history(*, is_taken_over: bool) -> World:
        world = small_world("free")
        world.pass_time(MONTH_END_MS)
        world.obey(grant_put(credits_micro=50 * CREDIT), grant_revoke())
        if is_taken_over:
            world.take_over()
        for ts in (MONTH_END_MS + 1, MONTH_END_MS - HOUR_MS, MONTH_END_MS + 2):
            world.send(usage("documents.create", ts=ts, quantities={"documents": 3}), at=MONTH_END_MS + HOUR_MS)
        return world

    kept, taken = history(is_taken_over=False), history(is_taken_over=True)
    for month in ("2026-11", "2026-12"):
        assert kept.ledger("account", "org_a", month) == taken.ledger("account", "org_a", month)
