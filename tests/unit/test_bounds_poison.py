"""Records that once stopped a process, or could have: each is refused by name now."""

import contextlib
import json
from time import process_time

import pytest
from pydantic import ValidationError

from clickhouse.rows import StateRows
from sluicegate.gate.limiter import Limiter, buckets_of
from sluicegate_schemas.decode import Malformed, decode_usage
from sluicegate_schemas.envelope import ENCODE as ENCODE_WIRE
from sluicegate_schemas.envelope import WireForward
from sluicegate_schemas.files import FileError, load_accounts, load_catalogue
from sluicegate_schemas.limits import RateLimits
from sluicegate_schemas.outputs import Scope
from sluicegate_schemas.state import ENCODE, HEADER_KEY
from stack.clickhouse_http.failures import EngineError
from stack.clickhouse_http.request import read_credentials, read_statement
from streams.domain.command_record import RefusedError, decode_command
from streams.domain.partition import Partition
from streams.engine.fold import Fold, StateFormatError
from tests.domain_world import NOW_MS, World, key_put, organization_put, usage
from tests.state_log import Record

EPOCH = b"\x00\x00\x00\x01\x00\x00\x00\x00"


def forward(event_id: str | None) -> bytes:
    return ENCODE_WIRE(WireForward(2, "usage", 3, 17, 0, NOW_MS, usage("search.knn", event_id=event_id)))


def test_a_forward_whose_event_has_no_id_is_refused() -> None:
    with pytest.raises(Malformed) as refused:
        decode_usage(forward(None))
    assert (refused.value.reason, refused.value.field) == ("invalid", "event.id")


def test_a_forward_without_an_id_stops_no_partition_where_it_would_cause_a_decision() -> None:
    world = World()
    world.obey(organization_put(credits_micro_per_month=1), key_put())
    world.append(forward(None))
    assert [reject.reason for reject in world.rejects] == ["invalid"]
    world.append(forward("own-1"))
    assert world.decisions[-1].verdict == "block"


RATES = RateLimits(requests_per_second=1, burst=1, requests_per_minute=1)


def test_a_key_whose_limits_are_lifted_or_set_is_answered() -> None:
    limiter = Limiter()
    limited = buckets_of(RATES)
    assert limiter.take("key_a", limited, NOW_MS).admitted
    assert not limiter.take("key_a", limited, NOW_MS).admitted
    assert limiter.take("key_a", (), NOW_MS) == (True, ())
    assert limiter.peek("key_a", (), NOW_MS) == ()
    assert not limiter.take("key_a", limited, NOW_MS).admitted, "what was taken is still in the bucket"
    assert limiter.take("key_a", limited, NOW_MS + 60_000).admitted


@pytest.mark.parametrize("name", ["sk_live_0123456789abcdef", "\x9b2J", "a\nb", "\u202e", "a" * 40])
def test_the_refusal_of_a_command_repeats_no_name_that_may_hold_anything(name: str) -> None:
    value = json.dumps({**json.loads(key_put()), name: 1}).encode()
    with pytest.raises(RefusedError) as refused:
        decode_command(value)
    assert (str(refused.value), refused.value.field) == ("has an unknown field", "key.put")


def test_the_refusal_of_a_command_names_a_harmless_unknown_field() -> None:
    with pytest.raises(RefusedError, match="has an unknown field: teir"):
        decode_command(organization_put(teir="pro"))


@pytest.mark.parametrize(
    "payload",
    [
        ENCODE([1, 1, 1, NOW_MS, 1, 1, 1, [["aaaa", 1, b"", b""]]]).replace(b"aaaa", b"\xff" * 4),
        b"\x99\x01\x01\x01\x01\x01\x01\x01\x90" + b"\x91" * 100_000,
        b"\x98\x01",
        b"\xdd\xff\xff\xff\xff",
    ],
    ids=["no UTF-8", "nested deep", "cut", "a lying length"],
)
def test_a_flush_header_that_cannot_be_read_is_a_damaged_state(payload: bytes) -> None:
    with pytest.raises(StateFormatError):
        Fold().feed(HEADER_KEY, EPOCH + payload)


@pytest.mark.parametrize(
    ("key", "payload"),
    [
        (b"o|a|b", ENCODE(["org_a", "pro", None, None])),
        (b"o", ENCODE(["org_a", "pro", None, None])),
        (b"o|\xff", ENCODE(["org_a", "pro", None, None])),
        (b"l|account|org_a|november", ENCODE(["org_a", None, None, 0, [], 0, {}])),
        (b"b|key_a", ENCODE([1, 1, 1, "9" * 5_000, "1"])),
        (b"f|org_a|x", b"\x93\x01\x01" + b"\x91" * 100_000),
        (b"c|org_a", ENCODE(["search"])),
        (b"y|org_a", b"\x90"),
        (b"", b""),
    ],
)
def test_a_row_that_no_worker_wrote_is_named(key: bytes, payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"row of table"):
        Partition(0, 1).restore(key, payload)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = " + "9" * 5_000, "thousands of digits"),
        ("version = 0x" + "f" * 5_000, "must lie between"),
        (".".join(["a"] * 1_200) + " = 1", "nested too deep"),
        ("a = " + "[" * 5_000, "nested too deep"),
    ],
)
def test_a_file_of_odd_sizes_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(FileError, match=said):
        load_catalogue(text)


def test_a_message_about_a_file_shows_no_control_signs_of_it() -> None:
    text = 'issued_at = 2026-01-01T00:00:00Z\nissued_by = "a"\n[[organizations]]\nid = "org_a"\ntier = "pro"\n'
    for name in (r"\u001b[31m", r"\u2028", r"\u202e", r"\n", "é" * 5_000):
        with pytest.raises(FileError) as refused:
            load_accounts(f'{text}"{name}" = 1')
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 700


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t VALUES " + b"('it''s')," * 50_000,
        b"INSERT INTO t VALUES ('" + b"''" * 100_000,
        b"INSERT INTO t" + b" " * 500_000 + b"x",
        b"INSERT INTO t " + b"FORMAT " * 80_000 + b"'",
        b"INSERT INTO t " + b"`\\" * 200_000,
    ],
)
def test_no_statement_takes_longer_to_read_than_its_length(text: bytes) -> None:
    started = process_time()
    assert read_statement({}, text, headers={}).insert is None
    assert process_time() - started < 2


@pytest.mark.parametrize("value", ["é", "=", "a\u2028", "/w==", ""])
def test_a_login_that_cannot_be_read_is_a_failed_one(value: str) -> None:
    with contextlib.suppress(EngineError):
        assert read_credentials({}, {"authorization": f"Basic {value}"}) == ("", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "operation", "id": "org_a", "subject": "search.knn"},
        {"kind": "operation", "id": "org_a"},
        {"kind": "organization", "id": "org_a", "operation": "search.knn"},
        {"kind": "key", "id": "org_a"},
        {"kind": "account", "id": "key_a"},
    ],
)
def test_a_scope_whose_words_another_scope_could_have_is_none(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Scope.model_validate(fields)


@pytest.mark.parametrize(
    ("key", "payload"),
    [
        (b"c|org_a|key_a|search.knn|1|2", ["search", -1]),
        (b"c|org_a|key_a|search.knn|1|2", ["search", 2**63]),
        (b"c|org_a|key_a|search.knn|99999999|2", ["search", 1]),
        (b"c|org_a|key_a|search.knn|-1|2", ["search", 1]),
        (b"c|org_a|key_a|search.knn|01|2", ["search", 1]),
        (b"c|org_a|key_a|search.knn|1_0|2", ["search", 1]),
        (b"c|org_a|key_a|search.knn|1|18446744073709551616", ["search", 1]),
        (b"_head", [1, 1, 1, -1, 1, 1, 1, []]),
    ],
)
def test_a_cell_that_fits_no_column_is_refused_before_it_is_inserted(key: bytes, payload: list[object]) -> None:
    with pytest.raises(StateFormatError, match="offset 0"):
        StateRows("state/0").feed([Record(0, key, EPOCH + ENCODE(payload))])
