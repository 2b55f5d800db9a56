"""What the records promise of their keys, versions and bounds."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sluicegate_schemas import outputs, state
from sluicegate_schemas.bounds import EPOCH_MS_MAX, EPOCH_MS_MIN, Sentence, Time, from_epoch_ms, to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue, Plan, RateCardEntry, StepPrice, UnitPrice
from sluicegate_schemas.limits import RateLimits
from tests.property.schemas_events import api_key_ids, event_ids, operations, organization_ids, unhurried

TIME: TypeAdapter[datetime] = TypeAdapter(Time)
scopes = st.one_of(
    st.builds(outputs.Scope, kind=st.just("key"), id=api_key_ids),
    st.builds(outputs.Scope, kind=st.sampled_from(["organization", "account"]), id=organization_ids),
    st.builds(
        outputs.Scope,
        kind=st.just("operation"),
        id=organization_ids,
        operation=operations,
        subject=st.none() | event_ids,
    ),
)
LIMITS = st.sampled_from(["requests_per_second", "requests_per_minute", "credits"])


@unhurried
@given(scopes, LIMITS, scopes, LIMITS)
def test_two_scopes_or_limits_never_share_a_decision_key(
    one: outputs.Scope, limit: str, other: outputs.Scope, other_limit: str
) -> None:
    same = (one, limit) == (other, other_limit)
    assert (outputs.decision_key(one.text(), limit) == outputs.decision_key(other.text(), other_limit)) == same


@unhurried
@given(scopes)
def test_a_scope_is_told_by_its_words(scope: outputs.Scope) -> None:
    kind, identifier, *rest = scope.text().split(":", 3)
    operation, subject = [*rest, None, None][:2]
    assert (kind, identifier, operation, subject) == (scope.kind, scope.id, scope.operation, scope.subject)


@unhurried
@given(organization_ids, api_key_ids | st.just(""), operations, st.integers(0, 68_374_080), st.integers(0, 2**63 - 1))
def test_the_row_key_of_a_cell_gives_its_parts_back(
    org_id: str, api_key_id: str, operation: str, minute: int, chunk: int
) -> None:
    key = state.rollup_key(org_id, api_key_id, operation, minute, chunk)
    assert state.parse_rollup_key(key) == (org_id, api_key_id, operation, minute, chunk)


@unhurried
@given(st.tuples(st.integers(1, 2**31), st.integers(0, 2**32 - 1)), st.integers(1, 2**32 - 1))
def test_a_later_flush_or_epoch_number_has_a_higher_rollup_version(epoch: tuple[int, int], flush: int) -> None:
    number, nonce = epoch
    version = state.rollup_version(number << 32 | nonce, flush)
    assert state.rollup_version(number << 32 | nonce, flush - 1) < version
    assert state.rollup_version((number + 1) << 32, 0) > version


@unhurried
@given(st.integers(EPOCH_MS_MIN, EPOCH_MS_MAX - 1))
def test_an_epoch_time_is_an_instant_and_back(epoch_ms: int) -> None:
    assert to_epoch_ms(from_epoch_ms(epoch_ms)) == epoch_ms
    assert TIME.validate_json(TIME.dump_json(from_epoch_ms(epoch_ms))) == from_epoch_ms(epoch_ms)


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", 1_769_860_800])
def test_only_json_writes_times_as_text(text: object) -> None:
    with pytest.raises(ValidationError):
        TIME.validate_python(text, strict=True)


@pytest.mark.parametrize(
    "value",
    [datetime(2026, 1, 1), datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)],  # noqa: DTZ001 - refused for that
)
def test_a_time_without_a_zone_or_outside_the_epoch_is_refused(value: datetime) -> None:
    with pytest.raises(ValidationError):
        TIME.validate_python(value)


@pytest.mark.parametrize("text", ["a\x00b", "a\nb", "a\x7fb", "a" * 501])
def test_a_sentence_has_no_control_signs_and_an_end(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Sentence).validate_python(text)


def plan() -> Plan:
    return Plan(credits_micro_per_month=5, rates=RateLimits(requests_per_second=1, burst=2, requests_per_minute=3))


def test_a_catalogue_without_a_tier_is_refused() -> None:
    with pytest.raises(ValidationError, match="plans: enterprise, team missing"):
        Catalogue(
            version=1,
            effective_at=datetime(2026, 1, 1, tzinfo=UTC),
            plans={"free": plan(), "pro": plan()},
            operations={"a": RateCardEntry(category="data")},
        )


def test_an_organizations_own_limits_stand_before_the_plans() -> None:
    catalogue = Catalogue(
        version=1,
        effective_at=datetime(2026, 1, 1, tzinfo=UTC),
        plans={
            "free": plan(),
            "pro": plan(),
            "team": plan(),
            "enterprise": Plan(credits_micro_per_month=None, rates=None),
        },
        operations={"a": RateCardEntry(category="data")},
    )
    own = RateLimits(requests_per_second=9, burst=9, requests_per_minute=9)
    assert catalogue.rates("pro", own) == own
    assert catalogue.rates("pro", None) == plan().rates
    assert catalogue.rates("enterprise", None) is None
    assert catalogue.credits_micro_per_month("pro", 0) == 0
    assert catalogue.credits_micro_per_month("pro", None) == 5
    assert catalogue.credits_micro_per_month("enterprise", None) is None


def test_a_priced_operation_needs_a_breakdown_and_a_request_a_category() -> None:
    price = UnitPrice(kind="per_unit", quantity="requests", credits_micro=1)
    with pytest.raises(ValidationError, match="needs a breakdown"):
        RateCardEntry(category="data", price=price)
    with pytest.raises(ValidationError, match="needs a category"):
        RateCardEntry(category=None, breakdown="search", price=price)


def test_steps_that_do_not_rise_are_refused() -> None:
    step = {"up_to": 1, "credits_micro": 1}
    content = {"kind": "steps", "quantity": "tokens", "steps": (step, step), "credits_micro_above": 1}
    with pytest.raises(ValidationError, match="steps must rise"):
        StepPrice.model_validate(content)
