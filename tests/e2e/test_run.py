"""``python -m stack run``, whole: real Kafka, ClickHouse, workers, sink, API nodes and callers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluicegate_schemas.envelope import WireEvent
from stack.node_log import NodeLog, Published

CHECKOUT = Path(__file__).parents[2]
LIMIT_S = 240
NEWCOMER_S = 60
"""From the opening on, until a newcomer has seen usage, a block, and why."""
NEEDED = {
    "events_published", "events_counted", "events_rejected", "events_duplicate", "credits_micro_expected",
    "credits_micro_ledger", "credits_micro_clickhouse", "requests_clickhouse", "decisions", "decision_latency_ms",
    "gate_refusals_429", "gate_refusals_403", "freshness_ms",
}  # fmt: skip

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(3 * LIMIT_S)]


def run(data: Path, *options: str, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stack", "run", "--data", str(data), *options],
        cwd=CHECKOUT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def processes_of(data: Path) -> list[str]:
    """The command lines of processes that name ``data``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(data) in command:
            found.append(command)
    return found


def test_all_totals_agree_and_a_false_record_of_a_node_is_found(tmp_path: Path) -> None:
    data, report_path = tmp_path / "data", tmp_path / "report.json"

    first = run(data, "--for", "10", "--speed", "60", "--report", str(report_path))
    assert first.returncode == 0, first.stderr
    report = json.loads(report_path.read_text())
    assert report.keys() >= NEEDED
    assert report["ok"]
    assert report["events_published"] == report["events_counted"] > 100
    assert report["credits_micro_expected"] == report["credits_micro_ledger"] == report["credits_micro_clickhouse"] > 0
    assert report["requests_clickhouse"] == report["requests_expected"]
    assert report["events_rejected"] == report["events_duplicate"] == 0
    assert report["gate_refusals_429"] > 0
    assert report["gate_refusals_403"] > 0
    assert report["decisions"] > 0
    assert report["decision_latency_ms"]["p99"] >= report["decision_latency_ms"]["p50"] > 0
    assert report["freshness_ms"]["p50"] > 0
    assert processes_of(data) == []
    secret = b"sk_live_demo_"
    assert not [path for path in data.rglob("*") if path.is_file() and secret in path.read_bytes()]

    # Goes on with the same data; a node now claims an event that it never sent.
    log = NodeLog(data / "nodes" / "node-1.jsonl")
    log.write(Published("never", 1, 1, 0, WireEvent(None, "org_finch", "key_finch_1", "search.web", 1, 1, 0, 200)))
    log.close()
    second = run(data, "--for", "3", "--speed", "20", "--report", str(report_path))
    assert second.returncode == 1, second.stderr
    report = json.loads(report_path.read_text())
    failed = [check["name"] for check in report["checks"] if not check["ok"]]
    assert failed == ["every published event is in the usage log as it was published"]
    assert "1 envelopes are missing or differ" in second.stderr
    assert report["credits_micro_expected"] == report["credits_micro_ledger"] == report["credits_micro_clickhouse"]
    assert processes_of(data) == []


@pytest.mark.timeout(600)
def test_within_two_minutes_each_kind_of_block_is_shown_once_and_clears(tmp_path: Path) -> None:
    report_path = tmp_path / "report.json"
    shown = run(tmp_path / "data", "--for", "90", "--report", str(report_path), limit_s=500)
    assert shown.returncode == 0, shown.stderr
    scenes = json.loads(report_path.read_text())["scenes"]
    assert {act["refused_by"] for act in scenes.values()} >= {
        *("compute_per_minute", "concurrency", "credits", "quota_collections", "budget_day"),
        *("operation_interval", "operation_concurrency", "operation_quantity"),
    }
    for name, act in scenes.items():
        assert act["refused_at_s"] < act["cleared_at_s"] < 120, name
    assert scenes["credits"]["refused_at_s"] < NEWCOMER_S
    assert {act["cleared_by"] for act in scenes.values()} >= {"time", "a grant", "a delete", "a larger budget"}


def test_within_a_minute_of_its_opening_a_newcomer_has_seen_usage_a_block_and_why(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-m", "stack", "run", "--data", str(data)],
        cwd=CHECKOUT,
        env={**os.environ, "COLUMNS": "200"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        opening = next(line for line in process.stderr if "Dashboard: " in line)
        opened_at = time.monotonic()
        key = next(word for word in next(process.stderr).split() if word.startswith("sk_")).rstrip(":")
        dashboard = opening.split()[1]
        assert httpx.get(dashboard, timeout=10, trust_env=False).status_code == 200
        why = look_around(dashboard.replace("/dashboard/", "/v1/organizations"), key, opened_at + NEWCOMER_S)
        print(f"all of it seen {time.monotonic() - opened_at:.1f} s after the opening")
        assert (why["decision"]["limit_name"], why["stands"]) == ("credits", True)
        assert why["event"]["api_key_id"] == "key_wren_1"
        assert why["events"], "what came before it"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert processes_of(data) == []


def look_around(organization: str, key: str, deadline: float) -> dict[str, Any]:
    """What a newcomer with ``key`` opens: usage, what is blocked, and why; returns the last."""
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=10, trust_env=False) as client:

        def until(path: str, holds: Callable[[Any], bool]) -> Any:
            while (answer := client.get(organization + path)).status_code != 200 or not holds(answer.json()):
                assert time.monotonic() < deadline, f"{path}: {answer.status_code} {answer.text[:500]}"
                time.sleep(0.5)
            return answer.json()

        usage = until("/usage", lambda body: body["credits"]["used"] > 0)
        assert usage["credits"]["total"] == 500
        until("/usage/series?interval=minute&group_by=operation", lambda body: body["points"])
        blocked = until("/limits", lambda body: any(one["limit_name"] == "credits" for one in body["decisions"]))
        decision_id = next(one["decision_id"] for one in blocked["decisions"] if one["limit_name"] == "credits")
        return until(f"/decisions/{decision_id}", lambda body: body["event"])


def test_a_trace_that_cannot_be_replayed_is_refused_before_anything_starts(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,many,2\n")
    refused = run(tmp_path / "data", "--for", "5", "--trace", str(trace))
    assert refused.returncode == 1
    assert "line 2: ContextTokens is 'many'" in refused.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("named", [True, False], ids=["named_folder", "fresh_folder"])
def test_an_interrupted_run_says_where_its_data_is_and_how_to_go_on_with_it(tmp_path: Path, named: bool) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-m", "stack", "run", "--for", "60", *(["--data", str(data)] if named else [])],
        cwd=CHECKOUT,
        env={**os.environ, "COLUMNS": "200", "SLUICEGATE_DATA_DIR": str(data)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert any("Starting ClickHouse" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        words = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    folder = data if named else next((data / "runs").iterdir())
    last = words.strip().splitlines()[-1]
    assert last.startswith("Interrupted: all was stopped, the ")
    assert f"kept in {folder};" in last
    assert last.endswith("run the same command to go on." if named else "the same command begins anew.")
    assert (f"--data {folder} goes on with them" in last) is not named
    assert processes_of(data) == []
