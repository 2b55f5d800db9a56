"""What a node writes down about itself comes back as it was, whenever the node was killed."""

from pathlib import Path

import pytest

from sluicegate_schemas.envelope import WireCharge, WireEvent
from stack.errors import StackError
from stack.evidence import read_nodes
from stack.node_log import Applied, Line, NodeLog, Published, Started, read_node_logs

EVENT = WireEvent(
    None, "org_a", "key_a", "retriever.execute", 1, 2, 1, 200, charges=[WireCharge("search.knn", {"requests": 2})]
)
LINES: list[Line] = [
    Started("node-1", 5),
    Published("p", 1, 7, 0, EVENT),
    Published("p", 1, 7, 1, EVENT),
    Applied("d/1", "key:key_a", "credits", "block", 90, 80, 85),
    Applied("d/0", "key:key_a", "credits", "block", 90, 4, 4),
    Applied("d/2", "key:key_a", "credits", "allow", 91, None, None),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    log = NodeLog(tmp_path / "nodes" / "node-1.jsonl")
    for line in LINES:
        log.write(line)
    log.close()
    return tmp_path / "nodes"


def test_lines_come_back_as_they_were_written(folder: Path) -> None:
    assert list(read_node_logs(folder)) == LINES


def test_a_half_written_last_line_is_left_out(folder: Path) -> None:
    path = folder / "node-1.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    assert list(read_node_logs(folder)) == LINES[:-1]


def test_a_damaged_line_is_named(folder: Path) -> None:
    path = folder / "node-1.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"index":1', b'"index":"1"'))
    with pytest.raises(StackError, match=r"node-1.jsonl line 3"):
        list(read_node_logs(folder))


def test_only_decisions_that_reached_a_running_node_have_a_latency(folder: Path) -> None:
    evidence = read_nodes(folder, 8)
    assert (evidence.events, len(evidence.envelopes)) == (2, 1)
    assert [line.decision_id for line in evidence.applied] == ["d/1"]
