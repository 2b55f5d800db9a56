"""Strategies for usage events as JSON objects: valid ones, and valid ones with one thing wrong or odd."""

import json
import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sluicegate_schemas.wire_checks import RESOURCE_NAMES

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A property has no deadline: the machine may be busy with brokers."""

_WORD = string.ascii_letters + string.digits


def _text(alphabet: str, most: int, first: str = _WORD) -> st.SearchStrategy[str]:
    rest = st.text(alphabet, max_size=most - 1)
    return st.builds(str.__add__, st.sampled_from(first), rest)


event_ids = _text(_WORD + "._:/+=@#~-", 128)
names = _text(_WORD + "._:/@-", 64)
identifiers = st.text(_WORD + "_-", min_size=1, max_size=60)
organization_ids = identifiers.map("org_{}".format)
api_key_ids = identifiers.map("key_{}".format)
words = _text(string.ascii_lowercase + string.digits + "_", 32, string.ascii_lowercase)
operations = st.lists(words, min_size=1, max_size=3).map(".".join)
amounts = st.integers(0, 10**15)


@st.composite
def quantities(draw: st.DrawFn) -> dict[str, int | None]:
    given = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "requests": amounts,
                "tokens": st.none() | amounts,
                "bytes": st.none() | amounts,
                "documents": st.none() | amounts,
                "dataset_size": st.none() | amounts,
            },
        )
    )
    time = draw(st.sampled_from([None, "seconds", "milliseconds"]))
    if time is not None:
        given[time] = draw(st.none() | st.integers(0, 10**12 if time == "seconds" else 10**15))
    return given


charges = st.fixed_dictionaries(
    {"operation": operations},
    optional={"quantities": quantities(), "model": st.none() | names, "cached": st.booleans()},
)
instants = st.datetimes(datetime(2020, 1, 2), datetime(2099, 12, 30))  # noqa: DTZ001 - a zone is added below
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11))])


def time_text(value: datetime, zone: Any, digits: str) -> str:
    """``value`` (UTC) in ``zone``, with ``digits`` of a fraction below the microsecond."""
    text = value.replace(tzinfo=UTC).astimezone(zone).isoformat(timespec="microseconds")
    text = text[:26] + digits + text[26:]
    return text.replace("+00:00", "Z")


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """A valid event as a JSON object."""
    ends = draw(instants)
    starts = draw(st.just(ends) | st.timedeltas(timedelta(0), timedelta(hours=9)).map(lambda delta: ends - delta))
    digits = st.text(string.digits, max_size=3)
    operation = draw(st.just("storage") | operations)
    event = draw(
        st.fixed_dictionaries(
            {
                "id": event_ids,
                "duration_ms": st.integers(0, 31 * 86_400_000),
                "org_id": organization_ids,
                "operation": st.just(operation),
                "status": st.integers(100, 599),
            },
            optional={
                "account_id": st.none() | organization_ids,
                "quantities": quantities(),
                "charges": st.lists(charges, max_size=16),
                "model": st.none() | names,
                "cached": st.booleans(),
                "labels": st.dictionaries(words, names, max_size=8),
                "resource_delta": st.dictionaries(
                    st.sampled_from(sorted(RESOURCE_NAMES)), st.integers(-(10**12), 10**12)
                ),
                "subject": st.none() | event_ids,
                "node": st.none() | names,
            },
        )
    )
    start_digits = draw(digits)
    event["started_at"] = time_text(starts, draw(zones), start_digits)
    event["ts"] = time_text(ends, draw(zones), start_digits)
    if operation != "storage" or draw(st.booleans()):
        event["api_key_id"] = draw(api_key_ids)
    return event


odd_values = st.sampled_from(
    (
        *[
            None,
            True,
            0,
            -1,
            1,
            1.0,
            1.5,
            100,
            600,
            2**31,
            2**53,
            2**63,
            2**64,
            10**40,
            -(10**40),
            "",
            "1",
            "a",
            "org_a",
        ],
        *["a\n", "a\x00", "A", "é", "\u202e", "key_", "key_a", "a" * 200, "storage", [], {}, [{}], {"a": "b"}],
        *[{"operation": "a"}, {"seconds": 1, "milliseconds": 1}, {"tokens": -1}, {"A": "b"}, {"collections": 10**13}],
        *["2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T23:59:60Z"],
        *["2019-12-31T23:59:59.999Z", "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "2099-12-31T23:59:59.9999999Z"],
        *["2026-01-01T00:00:00.1234567890Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1767225600"],
        *["2026-01-01t00:00:00z", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00Z", "2026-01-01T00:00:00+0100"],
    )
)
fields = st.sampled_from(
    (
        *["id", "started_at", "ts", "duration_ms", "org_id", "account_id", "api_key_id", "operation", "status"],
        *[
            "quantities",
            "charges",
            "model",
            "cached",
            "labels",
            "resource_delta",
            "subject",
            "node",
            "more",
            "specversion",
        ],
    )
)


@st.composite
def mutated_events(draw: st.DrawFn) -> dict[str, Any]:
    """A valid event with one or two fields removed or set to something odd, often just at a bound."""
    event = draw(events())
    for _ in range(draw(st.integers(1, 2))):
        field = draw(fields)
        target: Any = event
        inner = event.get(field)
        if isinstance(inner, dict) and inner and draw(st.booleans()):
            target, field = inner, draw(st.sampled_from(sorted(inner)))
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict) and draw(st.booleans()):
            target, field = inner[0], draw(st.sampled_from(["operation", "quantities", "model", "cached", "more"]))
        if draw(st.booleans()):
            target.pop(field, None)
        else:
            target[field] = draw(odd_values)
    return event


@st.composite
def texts(draw: st.DrawFn, objects: st.SearchStrategy[dict[str, Any]]) -> bytes:
    """One of ``objects`` as JSON in one of several spellings: order, white space, escapes."""
    event = draw(objects)
    items = draw(st.permutations(sorted(event.items())))
    ascii_only, indent = draw(st.booleans()), draw(st.sampled_from([None, 1]))
    text = json.dumps(dict(items), ensure_ascii=ascii_only, indent=indent)
    if draw(st.booleans()):
        text = text.replace("org_", "\\u006frg_").replace('"status"', '"st\\u0061tus"')
    return text.encode(errors="surrogatepass")
