"""Records that were written once stay readable, and a newer worker's longer records too."""

from typing import Any

import msgspec
import pytest

from sluicegate_schemas import state
from sluicegate_schemas.decode import decode_usage, to_wire
from sluicegate_schemas.envelope import WireEvent
from sluicegate_schemas.usage import UsageEvent
from tests.contract.golden_records import FOLDER, RECORDS, Golden

ARRAYS = [golden for golden in RECORDS if golden.file.endswith(".bin")]


def names(golden: Golden) -> str:
    return golden.file


def test_every_golden_file_has_its_record() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {golden.file for golden in RECORDS} | {"cloud_event.json"}


@pytest.mark.parametrize("golden", RECORDS, ids=names)
def test_a_record_written_once_is_still_read_the_same(golden: Golden) -> None:
    assert golden.decode((FOLDER / golden.file).read_bytes()) == golden.record


@pytest.mark.parametrize("golden", RECORDS, ids=names)
def test_what_is_written_today_is_read_the_same(golden: Golden) -> None:
    assert golden.decode(golden.encode(golden.record)) == golden.record


@pytest.mark.parametrize("golden", ARRAYS, ids=names)
@pytest.mark.parametrize("future", [None, 7, "new", ["new", {"field": 1}]], ids=repr)
def test_a_field_that_a_later_version_appends_is_passed_over(golden: Golden, future: Any) -> None:
    content = msgspec.msgpack.decode(golden.encode(golden.record))
    assert golden.decode(msgspec.msgpack.encode([*content, future])) == golden.record


@pytest.mark.parametrize("name", ["usage_envelope_v1.bin", "usage_forward_v2.bin"])
def test_a_field_appended_to_an_event_is_passed_over_at_the_border(name: str) -> None:
    value = (FOLDER / name).read_bytes()
    content = msgspec.msgpack.decode(value)
    events = content[6] if name == "usage_envelope_v1.bin" else content[6:7]
    for event in events:
        event[0] = "evt-1"  # who forwards an event names it
    value = msgspec.msgpack.encode(content)
    for event in events:
        event[11][0] += [{}, None, False, "new"][len(event[11][0]) - 1 :]
        event += [None] * (len(WireEvent.__struct_fields__) - len(event)) + [{"new": 1}]
    assert decode_usage(msgspec.msgpack.encode(content)) == decode_usage(value)


def test_an_event_and_a_cloud_event_written_once_are_the_same_usage() -> None:
    event = (FOLDER / "usage_event.json").read_bytes()
    assert decode_usage((FOLDER / "cloud_event.json").read_bytes()) == decode_usage(event)
    assert decode_usage(event) == to_wire(UsageEvent.model_validate_json(event))


def test_the_row_key_of_a_rollup_cell_is_unchanged() -> None:
    key = state.rollup_key("org_acme", "key_acme_1", "search.knn", 29_497_680, 12_345)
    assert key == b"c|org_acme|key_acme_1|search.knn|29497680|12345"
    assert state.parse_rollup_key(key) == ("org_acme", "key_acme_1", "search.knn", 29_497_680, 12_345)
