"""Names: none can pass for another, and nothing in one reaches a log, a header or a topic that it was not meant for."""

import json
import logging
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import Publisher, PublisherSettings
from sluicegate.gate import Gate
from sluicegate_schemas.decode import Malformed, decode_usage, validate_event
from sluicegate_schemas.envelope import ENCODE, WireEnvelope
from sluicegate_schemas.outputs import ENTITLEMENT
from sluicegate_schemas.state import rollup_key
from streams.domain.command_record import RefusedError, decode_command
from streams.domain.tables import row_key
from tests.domain_world import NOW_MS, World, key_put, organization_put, small_world, usage
from tests.gating import heron, key_record
from tests.property.schemas_events import api_key_ids, event_ids, names, operations, organization_ids

SECRET = "sk_live_0123456789abcdef"
LOOK_ALIKES = {
    "another composition": unicodedata.normalize("NFD", "org_é"),
    "a composed letter": "org_é",
    "a Cyrillic letter": "оrg_acme",
    "a full-width letter": "org_ａcme",
    "a zero-width space": "org_ac\u200bme",
    "a byte order mark": "\ufefforg_acme",
    "a direction mark": "org_\u202eacme",
    "a line end": "org_acme\n",
    "a NUL": "org_acme\x00",
    "an escape": "org_\x1b[2J",
    "a C1 escape": "org_\x9b2J",
    "a separator": "org_a|b",
    "the other separator": "org_a:b",
    "a space": "org_acme ",
    "an empty name": "org_",
    "a path": "org_../../etc",
    "a quote": "org_a'--",
}


@pytest.mark.parametrize("what", LOOK_ALIKES)
def test_a_name_that_could_pass_for_another_is_refused_at_every_border(what: str) -> None:
    name = LOOK_ALIKES[what]
    event = json.loads(json.dumps({"id": "e", "started_at": "2026-01-31T12:00:00Z", "ts": "2026-01-31T12:00:00Z"}))
    event |= {"duration_ms": 0, "org_id": name, "api_key_id": "key_a", "operation": "search.knn", "status": 200}
    with pytest.raises(Malformed) as refused:
        decode_usage(json.dumps(event).encode())
    assert refused.value.field == "org_id"
    with pytest.raises(Malformed):
        validate_event(usage(org=name))
    with pytest.raises(RefusedError):
        decode_command(organization_put(name))
    _, _, value = key_record()
    assert value is not None
    with pytest.raises(ValueError, match="organization_id"):
        ENTITLEMENT.validate_json(json.dumps(json.loads(value) | {"organization_id": name}))


def test_letters_of_another_case_are_another_name() -> None:
    world = World()
    world.obey(
        organization_put("org_a"), key_put("key_a", "org_a"), organization_put("org_A"), key_put("key_A", "org_A")
    )
    world.send(usage("search.knn"), usage("search.knn", org="org_A", key="key_A"), usage("search.knn", org="org_A"))
    assert (world.used("organization", "org_a"), world.used("organization", "org_A")) == (100_000, 100_000)
    assert [reject.reason for reject in world.rejects] == ["unknown_key"]


def test_an_organization_and_the_account_of_the_same_name_have_ledgers_of_their_own() -> None:
    world = World()
    world.obey(organization_put("org_a"), organization_put("org_b", account_id="org_a"))
    world.obey(key_put("key_a", "org_a"), key_put("key_b", "org_b", account_id="org_a"))
    world.send(usage("search.knn"), usage("search.knn", org="org_b", key="key_b", account="org_a"))
    used = [world.used("account", "org_a"), world.used("organization", "org_a"), world.used("organization", "org_b")]
    assert used == [200_000, 100_000, 100_000]


parts = st.tuples(organization_ids, api_key_ids, operations, names, event_ids)


@given(parts, parts)
def test_two_rows_never_share_a_key(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    def keys(org: str, key: str, operation: str, producer: str, event: str) -> list[bytes]:
        return [
            row_key("o", org),
            row_key("k", key),
            row_key("p", producer),
            row_key("f", org, event),
            row_key("m", org, event),
            row_key("l", "account", org, "2026-01"),
            row_key("l", "organization", org, "2026-01"),
            row_key("l", "key", key, "2026-01"),
            row_key("s", org, operation),
            row_key("h", org, operation, "2026-01"),
            row_key("n", "model", f"{operation}:{producer}"),
            rollup_key(org, key, operation, 1, 1),
            rollup_key(org, "", operation, 1, 1),
        ]

    mine, others = keys(*one), keys(*other)
    assert len(set(mine)) == len(mine)
    for at, key in enumerate(mine):
        assert key not in others[:at] + others[at + 1 :]
        assert b"\n" not in key


@pytest.mark.contract("1.5", "8.5")
@pytest.mark.parametrize("field", ["id", "org_id", "api_key_id", "operation", "model", "subject", "node", "account_id"])
def test_a_secret_in_the_wrong_field_of_an_event_reaches_no_topic_and_no_row(field: str) -> None:
    world = small_world()
    event = usage("search.knn")
    setattr(event, field, f"{SECRET} ")
    world.append(ENCODE(WireEnvelope(1, "p1", 1, 1, NOW_MS, None, [event])))
    world.append(json.dumps({field: SECRET, SECRET: 1, "labels": {SECRET: SECRET}}).encode())
    assert len(world.rejects) == 2
    sent = b"".join(record.value + (record.key or b"") for record in world.early + world.durable + world.balances)
    assert b"0123456789abcdef" not in sent
    assert b"0123456789abcdef" not in b"".join(key + payload for key, payload in world.rows.items())


@pytest.mark.parametrize("hostile", [SECRET, "a\nWARNING forged line", "\x1b[2J", "\x9b2J", "\u2028", "\ud800"])
async def test_what_the_publisher_says_of_a_refused_event_repeats_nothing_of_it(
    hostile: str, caplog: pytest.LogCaptureFixture
) -> None:
    fields: Any = {"org_id": "org_a", "operation": "search.knn", "started_at_ms": 1, "ts_ms": 1, "duration_ms": 0}
    for wrong in (
        {"org_id": hostile},
        {"labels": {hostile: hostile}},
        {"model": hostile},
        {"quantities": {hostile: 1}},
    ):
        publisher = Publisher(PublisherSettings(node="n"))
        with caplog.at_level(logging.WARNING):
            assert not publisher.publish(**fields | {"status": 200, "api_key_id": "key_a"} | wrong)
        assert publisher.stats().refused == 1
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert "0123456789abcdef" not in record.getMessage()


@pytest.mark.contract("1.5")
@given(st.text() | st.text("sk_live0123456789abcdef|\n\r\x00", max_size=40))
def test_no_key_that_a_caller_sends_comes_back_in_an_answer(key: str) -> None:
    answer = Gate(heron()).check(key.encode("utf-8", "replace").decode("latin-1"), "search.knn", now_ms=NOW_MS)
    assert answer.status == 401
    assert all(value.isascii() and value.isprintable() for _, value in answer.headers)
    assert len(key) < 8 or key.encode("utf-8", "replace") not in (answer.body or b"")
