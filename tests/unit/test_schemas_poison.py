"""Every kind of poison on the usage topic has its own answer."""

import json
import struct
from typing import Any

import pytest

from sluicegate_schemas import bounds
from sluicegate_schemas.decode import Malformed, decode_usage, to_wire, validate_event
from sluicegate_schemas.envelope import ENCODE, WireEnvelope, WireEvent
from sluicegate_schemas.usage import UsageEvent

EVENT: dict[str, Any] = {
    "id": "evt-1",
    "started_at": "2026-01-31T12:00:00Z",
    "ts": "2026-01-31T12:00:00.250Z",
    "duration_ms": 250,
    "org_id": "org_acme",
    "api_key_id": "key_acme_1",
    "operation": "search.knn",
    "status": 200,
    "quantities": {"tokens": 1},
    "charges": [{"operation": "search.web"}],
}
TEXT = json.dumps(EVENT)
CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "evt-1",
    "source": "/gateway",
    "type": "sluicegate.usage.v1",
    "data": EVENT,
}
WIRE: list[Any] = [None, "org_acme", "key_acme_1", "search.knn", 1_769_860_800_000, 1_769_860_800_250, 250, 200]


def wire(**changes: object) -> list[Any]:
    names = ["id", "org_id", "api_key_id", "operation", "started_at_ms", "ts_ms", "duration_ms", "status"]
    names += ["quantities", "model", "cached", "charges", "labels", "resource_delta", "subject", "account_id", "node"]
    content = [*WIRE, None, None, False, None, None, None, None, None, None]
    for name, value in changes.items():
        content[names.index(name)] = value
    return content


def envelope(*events: list[Any], **changes: Any) -> bytes:
    head = {"version": 1, "producer_id": "p1", "producer_epoch": 0, "sequence": 1, "sent_at_ms": 1, "node": None}
    return ENCODE([*{**head, **changes}.values(), list(events)])


def changed(**changes: object) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def refusal(value: bytes | None) -> tuple[str, str | None]:
    with pytest.raises(Malformed) as refused:
        decode_usage(value)
    return refused.value.reason, refused.value.field


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(None, "empty", id="a tombstone"),
        pytest.param(b"", "empty", id="no bytes"),
        pytest.param(b" \r\n\t", "empty", id="white space"),
        pytest.param(b"hello", "not_json", id="words"),
        pytest.param(TEXT[:-1].encode(), "not_json", id="cut JSON"),
        pytest.param(TEXT.encode() + b"{}", "not_json", id="two objects"),
        pytest.param(b"\xef\xbb\xbf" + TEXT.encode(), "not_json", id="a byte order mark"),
        pytest.param(TEXT.encode("utf-16"), "not_utf8", id="UTF-16"),
        pytest.param(TEXT.encode() + b"\x00", "not_json", id="a NUL behind"),
        pytest.param(changed(id="\ud800"), "not_json", id="an escaped lone surrogate"),
        pytest.param(TEXT.replace("evt-1", "\ud800").encode(errors="surrogatepass"), "not_utf8", id="a raw surrogate"),
        pytest.param(TEXT.replace("evt-1", "é").encode("latin-1"), "not_utf8", id="Latin-1"),
        pytest.param(b"\x80" + TEXT.encode(), "not_utf8", id="neither array nor text"),
        pytest.param(b"{" * bounds.EVENT_BYTES_MAX, "not_json", id="deep nesting"),
        pytest.param(b"[]", "invalid", id="an array of JSON"),
        pytest.param(TEXT.encode().ljust(bounds.EVENT_BYTES_MAX + 1), "too_large", id="a large event"),
        pytest.param(b"x" * 2_000_000, "too_large", id="2 MB of anything"),
        pytest.param(envelope(WIRE).ljust(bounds.ENVELOPE_BYTES_MAX + 1), "too_large", id="a large envelope"),
        pytest.param(changed(status=float("nan")), "not_json", id="NaN"),
        pytest.param((TEXT[:-1] + ',"id":"evt-1"}').encode(), "duplicate_field", id="a field twice"),
        pytest.param((TEXT[:-1] + ',"\\u0069d":"evt-1"}').encode(), "duplicate_field", id="a field twice, escaped"),
        pytest.param(
            TEXT.replace('{"tokens": 1}', '{"tokens": 1, "tokens": 1}').encode(),
            "duplicate_field",
            id="a quantity twice",
        ),
        pytest.param(
            json.dumps(CLOUD).replace('"status"', '"status": 200, "status"').encode(),
            "duplicate_field",
            id="a field twice in the data of a CloudEvent",
        ),
        pytest.param(b"\x97", "truncated_envelope", id="one byte of an envelope"),
        pytest.param(b"\xdd\x00\x00", "truncated_envelope", id="a part of a length"),
        pytest.param(envelope(WIRE)[:-1], "truncated_envelope", id="an envelope without its end"),
        pytest.param(b"\x97\x01\xa1p\x00\x01\x01\xc0\xdd\xff\xff\xff\xff", "truncated_envelope", id="a lying length"),
        pytest.param(b"\x90", "unknown_envelope_version", id="an empty array"),
        pytest.param(envelope(WIRE, version=3), "unknown_envelope_version", id="a later version"),
        pytest.param(envelope(WIRE, version=-1), "unknown_envelope_version", id="a negative version"),
        pytest.param(envelope(WIRE, version="1"), "unknown_envelope_version", id="a version in words"),
        pytest.param(envelope(WIRE) + b"\xc0", "invalid", id="something behind an envelope"),
        pytest.param(envelope(wire(id=b"\xff")), "invalid", id="bytes for a text"),
        pytest.param(envelope(WIRE).replace(b"org_acme", b"org_\xff\xff\xff\xff"), "not_utf8", id="a text not UTF-8"),
        pytest.param(envelope([*wire(), *[0]])[:-1] + b"\x91" * 50_000 + b"\x00", "invalid", id="a deep envelope"),
    ],
)
def test_poison_has_a_reason(value: bytes | None, reason: str) -> None:
    assert refusal(value)[0] == reason


@pytest.mark.contract("2.1")
@pytest.mark.parametrize(
    ("value", "field"),
    [
        (changed(status=1.0), "status"),
        (changed(status=10**40), "status"),
        (TEXT.replace("200", "1e999").encode(), "status"),
        (TEXT.replace("200", "2e2").encode(), "status"),
        (TEXT.replace("200", "9" * 5000).encode(), "status"),
        (changed(status=True), "status"),
        (changed(status="200"), "status"),
        (changed(duration_ms=-1), "duration_ms"),
        (changed(duration_ms=bounds.DURATION_MS_MAX + 1), "duration_ms"),
        (changed(quantities={"tokens": -1}), "quantities.tokens"),
        (changed(quantities={"tokens": 10**15 + 1}), "quantities.tokens"),
        (changed(quantities={"seconds": 1, "milliseconds": 1000}), "quantities"),
        (changed(charges=[{"operation": "a"}] * 17), "charges"),
        (changed(charges=[{"operation": "a"}, {"operation": "A"}]), "charges[1].operation"),
        (changed(labels={f"label{n}": "x" for n in range(9)}), "labels"),
        (changed(resource_delta={"planets": 1}), "resource_delta"),
        (changed(id="evt\x00"), "id"),
        (changed(id="evt\n"), "id"),
        (changed(id="e\u0301vt"), "id"),
        (changed(org_id="org_\u202e1"), "org_id"),
        (changed(org_id="org_аcme"), "org_id"),
        (changed(org_id="org_a|b"), "org_id"),
        (changed(operation="Search.KNN"), "operation"),
        (changed(api_key_id=None), "api_key_id"),
        (changed(api_key_id="sk_live_0123456789"), "api_key_id"),
        (changed(ts="2026-01-31T12:00:00.250"), "ts"),
        (changed(ts=1_769_860_800), "ts"),
        (changed(ts="2101-01-01T00:00:00Z"), "ts"),
        (changed(started_at="2026-01-31T12:00:00.251Z"), "started_at"),
        (json.dumps({k: v for k, v in EVENT.items() if k != "id"}).encode(), "id"),
        (json.dumps({k: v for k, v in EVENT.items() if k != "ts"}).encode(), "ts"),
        (json.dumps({k: v for k, v in EVENT.items() if k != "org_id"}).encode(), "org_id"),
        (json.dumps({**CLOUD, "id": "other"}).encode(), "data.id"),
        (json.dumps({**CLOUD, "time": "2026-01-31T12:00:01Z"}).encode(), "data.ts"),
        (json.dumps({**CLOUD, "specversion": "0.3"}).encode(), "specversion"),
        (json.dumps({**CLOUD, "data": {**EVENT, "status": 7}}).encode(), "data.status"),
        (envelope(wire(), wire(status=200.0)), "events[1].status"),
        (envelope(wire(cached=1)), "events[0].cached"),
        (envelope(wire(ts_ms=True)), "events[0].ts_ms"),
        (envelope(wire(ts_ms=float("nan"))), "events[0].ts_ms"),
        (envelope(wire(charges=[["a", {"tokens": 1.5}]])), "events[0].charges[0].quantities[...]"),
        (envelope(wire(labels={1: "x"})), "events[0].labels"),
        (envelope(), "events"),
        (envelope(*[WIRE] * 501), "events"),
        (envelope(WIRE, producer_id="a b"), "producer_id"),
        (envelope(WIRE, producer_epoch=-1), "producer_epoch"),
        (envelope(WIRE, sequence=0), "sequence"),
        (envelope(WIRE, sequence=2**64 - 1), "sequence"),
        (envelope(WIRE, sent_at_ms=-1), "sent_at_ms"),
        (envelope(WIRE, node=""), "node"),
        (ENCODE([2, "a topic", 0, 0, 0, 1, WIRE]), "topic"),
        (ENCODE([2, "usage", -1, 0, 0, 1, WIRE]), "partition"),
        (ENCODE([2, "usage", 0, 2**63, 0, 1, WIRE]), "offset"),
        (ENCODE([2, "usage", 0, 0, 0, 1, wire(status="x")]), "event.status"),
        (ENCODE([2, "usage", 0, 0, 0, 1, wire(status=600)]), "status"),
        (ENCODE([2, "usage", 0, 0, 0, 1, wire(org_id="acme")]), "org_id"),
        (changed(ts="2026-01-31T12:00:00.2500000000Z"), "ts"),
    ],
)
def test_an_invalid_field_is_named(value: bytes, field: str) -> None:
    assert refusal(value) == ("invalid", field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"started_at_ms": 1_769_860_800_251}, "started_at_ms"),
        ({"started_at_ms": bounds.EPOCH_MS_MIN - 1}, "started_at_ms"),
        ({"ts_ms": bounds.EPOCH_MS_MAX}, "ts_ms"),
        ({"ts_ms": 2**64 - 1}, "ts_ms"),
        ({"duration_ms": -1}, "duration_ms"),
        ({"status": 99}, "status"),
        ({"status": 600}, "status"),
        ({"duration_ms": bounds.DURATION_MS_MAX + 1}, "duration_ms"),
        ({"quantities": {"seconds": 1}}, "quantities"),
        ({"quantities": {"tokens": 10**15 + 1}}, "quantities.tokens"),
        ({"charges": [["a"]] * 17}, "charges"),
        ({"charges": [["a"], ["b", {"bytes": -1}]]}, "charges[1].quantities.bytes"),
        ({"charges": [["a", None, "a b"]]}, "charges[0].model"),
        ({"charges": [["A"]]}, "charges[0].operation"),
        ({"labels": {f"label{n}": "x" for n in range(9)}}, "labels"),
        ({"labels": {"a": "\x00"}}, "labels[...]"),
        ({"resource_delta": {"planets": 1}}, "resource_delta"),
        ({"resource_delta": {"documents": 10**12 + 1}}, "resource_delta.documents"),
        ({"id": "a\n"}, "id"),
        ({"subject": ""}, "subject"),
        ({"model": "x" * 65}, "model"),
        ({"node": " "}, "node"),
        ({"org_id": "org_a:b"}, "org_id"),
        ({"account_id": "acme"}, "account_id"),
        ({"operation": "a.b.c.d"}, "operation"),
        ({"api_key_id": "sk_live_0123456789"}, "api_key_id"),
        ({"api_key_id": None}, "api_key_id"),
    ],
)
def test_a_bad_event_in_an_envelope_costs_only_itself(changes: dict[str, object], field: str) -> None:
    decoded = decode_usage(envelope(wire(), wire(**changes), wire()))
    assert isinstance(decoded, WireEnvelope)
    first, bad, last = decoded.events
    validate_event(first)
    validate_event(last)
    with pytest.raises(Malformed) as refused:
        validate_event(bad)
    assert (refused.value.reason, refused.value.field) == ("invalid", field)


def decode_and_validate(value: bytes) -> None:
    decoded = decode_usage(value)
    assert isinstance(decoded, WireEnvelope)
    validate_event(decoded.events[0])


def test_what_a_refusal_says_repeats_nothing_of_the_record() -> None:
    secret = "sk_live_0123456789abcdef"
    for value in [
        changed(api_key_id=secret),
        changed(**{secret: 1}),
        changed(labels={secret.upper(): secret}),
        changed(resource_delta={secret: 1}),
        json.dumps({**CLOUD, "type": secret}).encode(),
        json.dumps({**CLOUD, "source": secret + " "}).encode(),
        envelope(wire(operation=secret.upper())),
        envelope(wire(quantities={secret: 1})),
        envelope(wire(labels={secret: secret + " "})),
    ]:
        with pytest.raises(Malformed) as refused:
            decode_and_validate(value)
        said = f"{refused.value} {refused.value.field} {refused.value.detail}".lower()
        assert "0123456789abcdef" not in said


def test_times_lose_what_is_below_the_millisecond() -> None:
    decoded = decode_usage(changed(started_at="2026-01-31T17:45:00.250999999+05:45", ts="2026-01-31T12:00:00.2500Z"))
    assert not isinstance(decoded, WireEnvelope)
    assert decoded == decode_usage(changed(started_at="2026-01-31T12:00:00.250Z"))


def test_seconds_travel_as_milliseconds_and_one_request_goes_without_saying() -> None:
    value = changed(quantities={"seconds": 90, "requests": 1}, account_id="org_acme")
    decoded = decode_usage(value)
    assert isinstance(decoded, WireEvent)
    assert (decoded.quantities, decoded.account_id) == ({"milliseconds": 90_000}, None)
    assert to_wire(UsageEvent.model_validate_json(value)) == decoded


def test_a_double_precision_float_is_never_taken_for_a_count() -> None:
    value = envelope(WIRE).replace(b"\xcc\xfa", b"\xcb" + struct.pack(">d", 250.0))
    assert refusal(value) == ("invalid", "events[0].duration_ms")
