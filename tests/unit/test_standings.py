"""Whose credits a forecast is made of: what the state's log says of accounts and of who shares them."""

from __future__ import annotations

from clickhouse.audit.books import Books
from clickhouse.audit.forecast import standings_of
from clickhouse.audit.run_out import Standing
from sluicegate_schemas.state import CLAIM_KEY, ENCODE, EPOCH_BYTES, Claim
from tests.domain_world import NOW_MS, World, key_put, organization_put, usage
from tests.grants import CREDIT

EPOCH = (1 << 32).to_bytes(EPOCH_BYTES, "big")


def books_of(world: World) -> Books:
    """The books of a log that holds the rows of ``world``."""
    books = Books(["state/0"], NOW_MS // 1000, open_max=100, evicted_max=100, sums_max=100)
    records = [(CLAIM_KEY, ENCODE(Claim("w", 1, 0))), *sorted(world.rows.items())]
    for offset, (key, payload) in enumerate(records):
        books.feed("state/0", offset, key, EPOCH + payload, ())
    return books


def test_a_member_that_used_nothing_this_month_still_belongs_to_its_account() -> None:
    world = World()
    world.obey(organization_put("org_root", "enterprise", credits_micro_per_month=100 * CREDIT))
    for name in ("a", "b", "c"):
        world.obey(organization_put(f"org_{name}", "enterprise", account_id="org_root"))
    world.obey(key_put("key_b", "org_b", account_id="org_root"), organization_put("org_alone"))
    assert standings_of(books_of(world), "2026-11") == ({}, dict.fromkeys(("org_a", "org_b", "org_c"), "org_root"))
    documents = usage("documents.create", org="org_b", key="key_b", account="org_root", quantities={"documents": 7})
    world.send(documents)
    standings, account_of = standings_of(books_of(world), "2026-11")
    assert standings == {"org_root": Standing(100 * CREDIT, 7 * CREDIT)}
    assert list(account_of) == ["org_b", "org_a", "org_c"], "who used most is named first"
    assert set(account_of.values()) == {"org_root"}
