"""The border for usage records answers as the JSON models do, and never fails in any other way than ``Malformed``."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from sluicegate_schemas.decode import Malformed, check_numbers, decode_usage, from_wire, to_wire, validate_event
from sluicegate_schemas.envelope import ENCODE, WireEnvelope, WireEvent, WireForward
from sluicegate_schemas.usage import CloudEvent, UsageEvent
from tests.property.schemas_events import events, mutated_events, names, texts, unhurried

T = TypeVar("T")


def attempt(action: Callable[[], T]) -> tuple[T | None, Malformed | None]:
    try:
        return action(), None
    except Malformed as malformed:
        return None, malformed


def by_the_models(value: bytes) -> WireEvent | None:
    """What the pydantic models make of ``value``; None where they refuse it."""
    try:
        content = json.loads(value)
        if isinstance(content, dict) and "specversion" in content:
            cloud = CloudEvent.model_validate_json(value)
            time = {"ts": cloud.time.isoformat()} if cloud.time else {}
            data = {"id": cloud.id, **time, **content["data"]}
            event = UsageEvent.model_validate_json(json.dumps(data))
            if event.id != cloud.id or (cloud.time is not None and event.ts != cloud.time):
                return None
            return to_wire(event)
        return to_wire(UsageEvent.model_validate_json(value))
    except (ValidationError, ValueError):
        return None


def by_the_border(value: bytes) -> WireEvent | None:
    try:
        event = decode_usage(value)
    except Malformed:
        return None
    assert isinstance(event, WireEvent)
    return event


@unhurried
@given(texts(events()))
def test_a_valid_json_event_is_the_same_event_for_the_border_and_the_model(value: bytes) -> None:
    event = by_the_border(value)
    assert event is not None
    assert event == by_the_models(value)
    validate_event(event)


@unhurried
@given(texts(events() | mutated_events()))
@example(b'{"id":"a"}')
def test_the_border_and_the_model_accept_the_same_json(value: bytes) -> None:
    assert by_the_border(value) == by_the_models(value)


@st.composite
def cloud_events(draw: st.DrawFn) -> bytes:
    data = draw(events() | mutated_events())
    cloud: dict[str, Any] = {
        "specversion": draw(st.sampled_from(["1.0", "1.0", "1.0", "0.3"])),
        "id": data.get("id", "e1"),
        "source": draw(st.sampled_from(["/gateway/1", "", "é"])),
        "type": "sluicegate.usage.v1",
        "data": data,
    }
    if draw(st.booleans()):
        cloud["time"] = draw(st.sampled_from([data.get("ts"), None, "2026-01-01T00:00:00Z"]))
    for field in draw(st.lists(st.sampled_from(["id", "ts"]), max_size=2)):
        data.pop(field, None)
    if draw(st.booleans()):
        cloud["subject"] = "gateway-1"
    return json.dumps(cloud).encode()


@unhurried
@given(cloud_events())
def test_the_border_and_the_models_accept_the_same_cloud_events(value: bytes) -> None:
    assert by_the_border(value) == by_the_models(value)


@unhurried
@given(texts(events()))
def test_an_event_keeps_its_meaning_from_record_to_wire_and_back(value: bytes) -> None:
    wire = to_wire(UsageEvent.model_validate_json(value))
    record = from_wire(wire)
    assert to_wire(record) == wire
    assert UsageEvent.model_validate_json(record.model_dump_json()) == record


@unhurried
@given(texts(events()), st.data())
def test_a_field_given_twice_is_refused_at_any_level(value: bytes, data: st.DataObject) -> None:
    text = value.decode()
    opens = [at for at, sign in enumerate(text) if sign == "{"]
    at = data.draw(st.sampled_from(opens))
    inside, _ = json.JSONDecoder().raw_decode(text[at:])
    if not inside:
        return
    field = data.draw(st.sampled_from(sorted(inside)))
    repeated = f"{json.dumps(field)}: {json.dumps(inside[field])},"
    with pytest.raises(Malformed) as refusal:
        decode_usage((text[: at + 1] + repeated + text[at + 1 :]).encode())
    assert refusal.value.reason == "duplicate_field"


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=12,
)


@unhurried
@given(
    st.binary(max_size=200)
    | st.builds(
        bytes.__add__, st.sampled_from([b"\x97\x01", b"\x97\x02", b"\xdc\x00\x07\x01", b"{", b'{"id":']), st.binary()
    )
    | plain.map(ENCODE)
    | st.lists(plain, max_size=6).map(lambda rest: ENCODE([1, *rest]))
    | st.lists(plain, max_size=6).map(lambda rest: ENCODE([2, *rest]))
    | st.lists(plain, max_size=18).map(lambda event: ENCODE([1, "p", 1, 1, 1, None, [event]]))
    | st.text().map(lambda text: text.encode(errors="surrogatepass"))
)
def test_any_bytes_are_decoded_or_named_malformed(value: bytes) -> None:
    decoded, malformed = attempt(lambda: decode_usage(value))
    assert malformed is None or (len(malformed.detail) <= 500 and len(malformed.field or "") <= 128)
    for event in decoded.events if isinstance(decoded, WireEnvelope) else ():
        _, malformed = attempt(partial(validate_event, event))
        assert malformed is None or malformed.reason == "invalid"


@st.composite
def envelopes(draw: st.DrawFn) -> WireEnvelope:
    content = [
        to_wire(UsageEvent.model_validate_json(json.dumps(event)))
        for event in draw(st.lists(events(), min_size=1, max_size=3))
    ]
    return WireEnvelope(
        1,
        draw(names),
        draw(st.integers(0, 2**63 - 1)),
        draw(st.integers(1, 2**63 - 1)),
        1_767_225_600_000,
        None,
        content,
    )


@unhurried
@given(envelopes())
def test_an_envelope_is_read_as_it_was_written_and_cut_anywhere_it_is_called_truncated(envelope: WireEnvelope) -> None:
    value = ENCODE(envelope)
    assert decode_usage(value) == envelope
    for length in range(1, len(value)):
        with pytest.raises(Malformed) as refusal:
            decode_usage(value[:length])
        assert refusal.value.reason == "truncated_envelope"


@unhurried
@given(events().map(json.dumps).map(UsageEvent.model_validate_json))
def test_a_forward_carries_its_event_whole(event: UsageEvent) -> None:
    forward = WireForward(2, "sluicegate.usage", 3, 17, 0, 1_767_225_600_000, to_wire(event))
    assert decode_usage(ENCODE(forward)) == forward


odd_numbers = st.sampled_from(
    [-(2**63), -1, 0, 1, 99, 100, 599, 600, 10**12, 10**12 + 1, 10**15, 10**15 + 1, 2**64 - 1]
)
odd_words = st.sampled_from(
    ["", "a", "a\n", "a\x00", "A", "é", "a" * 129, "org_a", "key_a", "requests", "seconds", "a.b"]
)


@pytest.mark.contract("2.1")
@unhurried
@given(
    events(),
    st.sampled_from(WireEvent.__struct_fields__),
    odd_numbers
    | odd_words
    | st.none()
    | st.dictionaries(st.sampled_from(["requests", "seconds", "tokens", "collections"]), odd_numbers, max_size=2)
    | st.dictionaries(odd_words, odd_words, max_size=9)
    | st.lists(st.tuples(odd_words, st.none(), st.none() | odd_words, st.booleans()).map(list), max_size=17),
)
def test_the_wire_checks_hold_the_bounds_of_the_model(event: dict[str, Any], field: str, odd: object) -> None:
    content: list[Any] = json.loads(json.dumps(to_wire_plain(event)))
    content[WireEvent.__struct_fields__.index(field)] = odd
    try:
        decoded = decode_usage(ENCODE([1, "p", 1, 1, 1, None, [content]]))
    except Malformed:
        return
    assert isinstance(decoded, WireEnvelope)
    wire = decoded.events[0]
    try:
        from_wire(wire)
        in_bounds = True
    except (ValueError, OverflowError):
        in_bounds = wire.id is None and field == "id"
    if field == "quantities" and isinstance(odd, dict) and "seconds" in odd:
        in_bounds = False
    _, malformed = attempt(lambda: validate_event(wire))
    assert (malformed is None) == in_bounds, malformed
    if in_bounds:
        check_numbers(wire)


def to_wire_plain(event: dict[str, Any]) -> list[Any]:
    wire = to_wire(UsageEvent.model_validate_json(json.dumps(event)))
    plain_event: list[Any] = json.loads(
        json.dumps([getattr(wire, name) for name in wire.__struct_fields__], default=list_of)
    )
    return plain_event


def list_of(charge: Any) -> list[Any]:
    return [getattr(charge, name) for name in charge.__struct_fields__]
