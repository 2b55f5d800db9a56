"""The view is the same whatever way its records came (requirements, section 3: a stale decision changes nothing)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.follower import Limits, Outcome, View
from sluicegate_schemas.limits import LimitName
from sluicegate_schemas.outputs import ENTITLEMENT, KeyEntitlement
from tests.gating import (
    CATALOGUE,
    NOW_MS,
    TopicRecord,
    catalogue_record,
    decision_record,
    key_record,
    organization_record,
)

ranks = st.tuples(st.integers(0, 3), st.integers(0, 9))
limit_names: st.SearchStrategy[LimitName] = st.sampled_from(["requests_per_minute", "requests_per_second"])
names = st.sampled_from(["a", "b", "c"])
SECRETS = {name: f"sk_live_demo_{name * 4}" for name in "abc"}


def _by_rank(rank: tuple[int, int]) -> int:
    return rank[0] * 10 + rank[1]


# What a record says follows from its key and rank, as it does from one writer that numbers what it says.
decisions = st.builds(
    lambda name, limit_name, rank: decision_record(
        name=f"key_{name}",
        limit_name=limit_name,
        rank=rank,
        verdict="block" if _by_rank(rank) % 3 else "allow",
        observed=600 + _by_rank(rank),
        decision_id=f"d-{name}-{rank[0]}-{rank[1]}",
    ),
    names,
    limit_names,
    ranks,
)
keys = st.builds(
    lambda name, account, rank: key_record(
        SECRETS[name], name=f"key_{name}", organization=account, rank=rank, revoked=_by_rank(rank) % 4 == 0
    ),
    names,
    st.sampled_from(["org_heron", "org_heron", "org_finch", "org_wren"]),
    ranks,
)
organizations = st.builds(
    lambda name, rank: organization_record(f"org_{name}", rank=rank, tier="free" if _by_rank(rank) % 2 else "pro"),
    names,
    ranks,
)
records = st.lists(st.one_of(decisions, keys, organizations, st.builds(catalogue_record)), max_size=30)


def seen(view: View, among: list[TopicRecord]) -> list[object]:
    """All that a gate could ask of ``view`` about ``among``."""
    answers: list[object] = [view.catalogue_at(NOW_MS)]
    for _, key, _ in among:
        name = key.decode()
        identifier = name.partition(":")[2]
        answers += [view.block(name), view.key(identifier), view.organization(identifier)]
    return answers


@pytest.mark.contract("3.12")
@given(records, st.randoms(use_true_random=False), st.data())
def test_any_order_and_any_repetition_end_in_the_same_view(
    stream: list[TopicRecord], shuffler: random.Random, data: st.DataObject
) -> None:
    in_order, disturbed = View(), View()
    for record in stream:
        in_order.apply(*record)
    repeats = data.draw(st.lists(st.sampled_from(stream), max_size=20)) if stream else []
    again = stream + repeats
    shuffler.shuffle(again)
    for record in again:
        disturbed.apply(*record)
    assert seen(in_order, stream) == seen(disturbed, stream)


@given(records)
def test_the_highest_rank_of_each_key_is_what_stands(stream: list[TopicRecord]) -> None:
    view = View()
    for record in stream:
        view.apply(*record)
    before = seen(view, stream)
    assert {view.apply(*record).outcome for record in stream} <= {Outcome.STALE}
    assert seen(view, stream) == before


@given(
    st.sampled_from(["catalog", "entitlements", "decisions"]),
    st.one_of(st.none(), st.binary(max_size=40), st.text(max_size=40).map(str.encode)),
    st.one_of(st.none(), st.binary(max_size=200), st.text(max_size=200).map(str.encode)),
)
def test_junk_is_counted_and_changes_nothing(topic: str, key: bytes | None, value: bytes | None) -> None:
    view = View()
    outcome = view.apply(topic, key, value).outcome
    assert outcome in (Outcome.MALFORMED, Outcome.STALE)
    assert view.outcomes == {outcome: 1}
    assert view.catalogue_at(NOW_MS) is None


@given(decisions, keys, organizations)
def test_a_record_under_another_records_key_is_malformed(
    decision: TopicRecord, key: TopicRecord, organization: TopicRecord
) -> None:
    view, three = View(), (decision, key, organization)
    for (topic, _, value), (_, other_key, _) in zip(three, three[1:] + three[:1], strict=True):
        assert view.apply(topic, other_key, value).outcome is Outcome.MALFORMED


@given(records)
def test_a_tombstone_removes(stream: list[TopicRecord]) -> None:
    view = View()
    for record in stream:
        view.apply(*record)
    for topic, key, _ in stream:
        view.apply(topic, key, None)
    assert not any(seen(view, stream))


@given(st.lists(keys, max_size=20))
def test_a_key_of_several_accounts_is_none_until_all_but_one_have_revoked_it(stream: list[TopicRecord]) -> None:
    view, newest = View(), dict[tuple[str, str], KeyEntitlement]()
    for topic, key, value in stream:
        view.apply(topic, key, value)
        one = ENTITLEMENT.validate_json(value)
        assert isinstance(one, KeyEntitlement)
        held = newest.get((one.key_sha256, one.account_id))
        if held is None or (held.sequence.epoch, held.sequence.counter) < (one.sequence.epoch, one.sequence.counter):
            newest[one.key_sha256, one.account_id] = one
    for name in {name for name, _ in newest}:
        live = [one for (other, _), one in newest.items() if other == name and not one.revoked]
        found = view.key(name)
        assert found is not None
        assert (found.revoked, found.is_contested) == (len(live) != 1, len(live) > 1)
        assert len(live) != 1 or found.account_id == live[0].account_id


def test_what_several_accounts_claim_takes_the_room_of_as_many_keys() -> None:
    view = View(Limits(keys_max=2))
    accounts = ("org_heron", "org_finch", "org_wren")
    outcomes = [view.apply(*key_record(SECRETS["a"], organization=account)).outcome for account in accounts]
    assert outcomes == [Outcome.APPLIED, Outcome.APPLIED, Outcome.OVERFLOWED]
    assert not view.complete


def test_a_full_view_says_so_and_keeps_what_it_has() -> None:
    view = View(Limits(keys_max=1, organizations_max=1, decisions_max=2))
    assert view.apply(*key_record(SECRETS["a"])).outcome is Outcome.APPLIED
    assert view.complete
    assert view.apply(*key_record(SECRETS["b"])).outcome is Outcome.OVERFLOWED
    assert not view.complete
    assert view.apply(*key_record(SECRETS["a"], revoked=True, rank=(2, 0))).outcome is Outcome.APPLIED


def test_a_block_displaces_the_oldest_allow_but_never_a_block() -> None:
    view = View(Limits(decisions_max=2))
    for name, verdict in (("key_a", "allow"), ("key_b", "allow"), ("key_c", "block"), ("key_d", "block")):
        assert view.apply(*decision_record(name=name, verdict=verdict)).outcome is Outcome.APPLIED
    assert view.apply(*decision_record(name="key_e")).outcome is Outcome.OVERFLOWED
    standing = [name for name in "abcde" if view.block(f"requests_per_minute:key:key_{name}")]
    assert standing == ["c", "d"]


def test_a_catalogue_is_in_force_from_its_time_on() -> None:
    view = View()
    view.apply(*catalogue_record())
    assert view.catalogue_at(NOW_MS) == CATALOGUE
    assert view.catalogue_at(0) is None
