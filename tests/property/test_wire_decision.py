"""Decisions are written and read by the short way as the model writes and reads them."""

import json
import re
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from sluicegate_schemas.bounds import EPOCH_MS_MAX, EPOCH_MS_MIN, from_epoch_ms, to_epoch_ms
from sluicegate_schemas.catalogue import Tier
from sluicegate_schemas.limits import CATEGORIES, LimitName
from sluicegate_schemas.outputs import Cause, Decision, Position, Scope, Sequence, decision_key
from sluicegate_schemas.wire_checks import Malformed
from sluicegate_schemas.wire_decision import ENCODE_DECISION, decode_decision, to_record
from streams.domain.outputs import Outbox
from streams.domain.scopes import ScopeNames
from streams.domain.tables import COUNT_MAX, StandingRow
from tests.property.schemas_events import (
    api_key_ids,
    event_ids,
    names,
    odd_values,
    operations,
    organization_ids,
    texts,
    unhurried,
    words,
)

PARTITION, EPOCH = 7, 1 << 32
OWNERS = {"key_a": "org_of_a"}
"""Of the keys that the worker knows."""

labels = st.builds("{}={}".format, words, names)
scopes = st.one_of(
    st.tuples(st.just("key"), st.sampled_from(sorted(OWNERS)) | api_key_ids),
    st.tuples(st.sampled_from(["organization", "account"]), organization_ids),
    st.tuples(st.just("operation"), organization_ids, operations, st.none() | event_ids),
    st.tuples(st.just("label"), organization_ids, st.none(), st.none(), labels),
    st.tuples(st.just("category"), organization_ids, st.none(), st.none(), st.none(), st.sampled_from(CATEGORIES)),
).map(lambda given: ScopeNames(*given))
whole_seconds = st.integers(EPOCH_MS_MIN // 1_000, EPOCH_MS_MAX // 1_000 - 1).map(lambda second: second * 1_000)
times_ms = whole_seconds | st.integers(EPOCH_MS_MIN, EPOCH_MS_MAX - 1)
counts = st.integers(0, 2 * COUNT_MAX) | st.sampled_from([0, COUNT_MAX, COUNT_MAX + 1])
small_counts = st.integers(0, 2**31 - 1)
causes = st.tuples(st.integers(0, COUNT_MAX), small_counts, event_ids, organization_ids, times_ms, times_ms)


@st.composite
def rows(draw: st.DrawFn) -> StandingRow:
    """What a policy may decide."""
    scope = draw(scopes)
    return StandingRow(
        decision_id=draw(event_ids),
        scope_kind=scope.kind,
        scope_id=scope.id,
        verdict=draw(st.sampled_from(["block", "allow"])),
        limit_name=draw(st.sampled_from(get_args(LimitName))),
        limit=draw(counts),
        observed=draw(counts),
        until_ms=draw(st.none() | times_ms),
        tier=draw(st.sampled_from(get_args(Tier))),
        plan_version=draw(small_counts),
        decided_at_ms=draw(times_ms),
        cause=draw(st.none() | causes),
        operation=scope.operation,
        subject=scope.subject,
        label=scope.label,
        category=scope.category,
    )


def written(row: StandingRow) -> tuple[bytes | None, bytes]:
    """Key and value of the record that a worker sends."""
    outbox = Outbox(PARTITION)
    outbox.start_epoch(EPOCH)
    outbox.organization_of_key = OWNERS.get
    outbox.decision(row)
    [record] = outbox.take().early
    return record.key, record.value


def by_hand(row: StandingRow) -> Decision:
    """The record that says what ``row`` does, each field checked by the model."""
    cause = None
    if row.cause is not None:
        offset, index, event_id, organization_id, ts_ms, logged_at_ms = row.cause
        cause = Cause(
            position=Position(topic="usage", partition=PARTITION, offset=offset, index=index),
            event_id=event_id,
            organization_id=organization_id,
            ts=from_epoch_ms(ts_ms),
            logged_at=from_epoch_ms(logged_at_ms),
        )
    fields = {
        "decision_id": row.decision_id,
        "scope": Scope.model_validate(row.scope()._asdict()),
        "verdict": row.verdict,
        "limit_name": row.limit_name,
        "limit": min(row.limit, COUNT_MAX),
        "observed": min(row.observed, COUNT_MAX),
        "until": None if row.until_ms is None else from_epoch_ms(row.until_ms),
        "tier": row.tier,
        "plan_version": row.plan_version,
        "cause": cause,
        "decided_at": from_epoch_ms(row.decided_at_ms),
        "sequence": Sequence(epoch=EPOCH, counter=0),
        "organization_id": OWNERS.get(row.scope_id) if row.scope_kind == "key" else row.scope_id,
    }
    return Decision.model_validate(fields)


@unhurried
@given(rows())
def test_a_worker_writes_a_decision_byte_by_byte_as_the_model_does(row: StandingRow) -> None:
    key, value = written(row)
    record = by_hand(row)
    assert value == record.model_dump_json().encode()
    assert Decision.model_validate_json(value) == record
    assert key == decision_key(record.scope.text(), row.limit_name).encode()


@unhurried
@given(rows())
def test_what_a_worker_wrote_is_read_whole(row: StandingRow) -> None:
    _, value = written(row)
    decision = decode_decision(value)
    record = by_hand(row)
    assert ENCODE_DECISION(decision) == value
    assert to_record(decision) == record
    assert decision.scope.text() == record.scope.text()
    assert (decision.until_ms, decision.decided_at_ms) == (row.until_ms, row.decided_at_ms)
    if decision.cause is not None and row.cause is not None:
        assert (decision.cause.ts_ms, decision.cause.logged_at_ms) == row.cause[4:]


odd = odd_values | st.sampled_from(
    (
        *[2**31 - 1, 2**63 - 1, "block", "label", "credits", "pro", "a=b", "a=b\n", "org_a\n", "key_a\n"],
        *["a" * 249, "a" * 250, "\ud800", "\U0001f600", "2026-01-01T00:00:00Z\n"],
        *["2026-01-01T01:00:00.5+01:00", "2026-01-01T00:00:00.1239999Z"],
    )
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A decision with one or two fields, at any depth, removed or set to something odd, often just at a bound."""
    _, value = written(draw(rows()))
    record: dict[str, Any] = json.loads(value)
    for _ in range(draw(st.integers(0, 2))):
        inside = [record, *(one for one in record.values() if isinstance(one, dict))]
        inside += [one for part in inside[1:] for one in part.values() if isinstance(one, dict)]
        target = draw(st.sampled_from(inside))
        field = draw(st.sampled_from([*sorted(target), "more"]))
        change = draw(st.sampled_from(["remove", "newline", "odd", "odd"]))
        if change == "remove":
            target.pop(field, None)
        elif change == "newline" and isinstance(target.get(field), str):
            target[field] += "\n"
        else:
            target[field] = draw(odd)
    return record


def by_the_model(value: bytes) -> Decision | None:
    try:
        version = json.loads(value).get("schema_version", 1)
        return Decision.model_validate_json(value) if type(version) is int else None
    except (ValidationError, ValueError):
        return None


def by_the_border(value: bytes) -> Decision | None:
    try:
        decision = decode_decision(value)
    except Malformed:
        return None
    record = to_record(decision)
    cause = None if record.cause is None else (to_epoch_ms(record.cause.ts), to_epoch_ms(record.cause.logged_at))
    assert cause == (None if decision.cause is None else (decision.cause.ts_ms, decision.cause.logged_at_ms))
    assert decision.until_ms == (None if record.until is None else to_epoch_ms(record.until))
    assert decision.decided_at_ms == to_epoch_ms(record.decided_at)
    return record


@unhurried
@given(texts(mutated()))
@example(b"{}")
def test_the_border_and_the_model_accept_the_same_decisions(value: bytes) -> None:
    assert by_the_border(value) == by_the_model(value)


scope_fields = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["key", "organization", "account", "operation", "label", "category"]),
        "id": st.sampled_from(["key_a", "org_a"]),
    },
    optional={
        "operation": st.sampled_from([None, "a.b"]),
        "subject": st.sampled_from([None, "s:1"]),
        "label": st.sampled_from([None, "a=b"]),
        "category": st.sampled_from([None, "search"]),
    },
)


@unhurried
@given(rows(), scope_fields)
def test_a_scope_names_what_its_kind_needs_and_nothing_else(row: StandingRow, scope: dict[str, Any]) -> None:
    value = json.dumps({**json.loads(written(row)[1]), "scope": scope}).encode()
    assert by_the_border(value) == by_the_model(value)


@unhurried
@given(st.binary(max_size=200) | rows().flatmap(lambda row: cut(written(row)[1])))
def test_any_bytes_are_a_decision_or_named_malformed(value: bytes) -> None:
    try:
        decode_decision(value)
    except Malformed as malformed:
        assert len(malformed.detail) <= 500  # noqa: PT017 - it need not be refused
        assert len(malformed.field or "") <= 128  # noqa: PT017 - it need not be refused


def cut(value: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, len(value) - 1).map(lambda end: value[:end])


@unhurried
@given(rows())
def test_of_a_field_given_twice_the_last_counts_if_all_are_valid(row: StandingRow) -> None:
    _, value = written(row)
    assert by_the_border(b'{"limit":5,' + value[1:]) == by_hand(row)
    twice = value[:-1] + b',"limit":5}'
    assert by_the_border(twice) == by_the_model(twice) == by_hand(row).model_copy(update={"limit": 5})
    assert by_the_border(b'{"limit":-5,' + value[1:]) is None


WHOLE = StandingRow(
    *("d-1", "operation", "org_a", "block", "operation_quantity", 1, 1, EPOCH_MS_MIN, "pro", 1, EPOCH_MS_MIN),
    cause=(0, 0, "e-1", "org_a", EPOCH_MS_MIN, EPOCH_MS_MIN),
    operation="a.b",
    subject="s-1",
)
LABELLED = StandingRow("d-1", "label", "org_a", "block", "budget_day", 1, 1, None, "pro", 1, EPOCH_MS_MIN, None,
                       label="a=b")  # fmt: skip


@pytest.mark.parametrize("row", [WHOLE, LABELLED], ids=["whole", "labelled"])
def test_no_text_may_end_with_a_line_but_the_name_of_a_topic(row: StandingRow) -> None:
    _, value = written(row)
    words = [word for word in re.findall(rb': ?"([^"]+)', value) if word != b"usage"]
    assert len(words) >= 7
    for word in words:
        spoiled = value.replace(b'"%b"' % word, b'"%b\\n"' % word, 1)
        assert by_the_border(spoiled) is by_the_model(spoiled) is None, word


@pytest.mark.parametrize("version", ["1.0", "1e0", "true", "2", "null", '"1"'])
def test_the_version_of_the_schema_is_a_whole_number(version: str) -> None:
    value = written(WHOLE)[1].replace(b'"schema_version":1', b'"schema_version":' + version.encode())
    with pytest.raises(Malformed, match="schema_version"):
        decode_decision(value)
