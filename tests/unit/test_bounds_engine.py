"""What lies around a partition, filled past its limit: ledger, engine, sink, the engine's HTTP face, catalogue.

The limits' list: docs/bounds.md.
"""

import threading
from collections import OrderedDict
from typing import Any

import pytest
from pydantic import ValidationError

from clickhouse import rows as rows_module
from clickhouse.rows import StateRows
from sluicegate_schemas.catalogue import ModelPrice, StepPrice
from sluicegate_schemas.state import ENCODE, TOMBSTONE_EPOCH_HEADER, TOMBSTONE_REPAIR_HEADER, OutboxRecord, rollup_key
from stack.clickhouse_http.app import STATEMENTS_RUNNING_MAX, STATEMENTS_WAITING_MAX, ClickHouseHttp
from stack.clickhouse_http.engine import SESSIONS_MAX, Answer, Engine
from stack.clickhouse_http.failures import EngineError
from stack.clickhouse_http.forms import FIELDS_MAX, read_form
from stack.clickhouse_http.request import read_statement
from streams.domain.partition import Partition
from streams.engine.core import PartitionCore
from streams.engine.limits import Limits
from streams.engine.machine import Outputs
from streams.engine.phase import Phase
from tests.domain_world import small_world, usage
from tests.fuzz.http_targets import ask
from tests.state_log import Record


def test_an_event_that_a_ledger_cannot_hold_is_rejected_and_the_next_one_counts() -> None:
    world = small_world()
    world.send(usage("documents.create", quantities={"documents": 10**12}))
    world.send(usage("documents.create", quantities={"documents": 1}), usage("documents.get"))
    assert [reject.field for reject in world.rejects] == ["quantities"]
    assert world.used("account", "org_a") == 10**18
    assert world.machine.totals.counted == 2


def running(limits: Limits) -> PartitionCore:
    core = PartitionCore(0, Partition(0, 1), limits)
    core.tick(0.0, lease_until=1e9)
    core.catalogue_seen(0.0)
    core.phase = Phase.RUNNING
    return core


def record(size: int) -> OutboxRecord:
    return OutboxRecord("rejects", -1, None, b"x" * size)


def test_input_waits_while_durable_outputs_pass_their_bytes() -> None:
    core = running(Limits(outbox_bytes_max=1_000))
    assert core.accepts_input(0.0)
    core.outbox.add(Outputs([], [record(600), record(600)]))
    assert not core.accepts_input(0.0)


def test_input_waits_while_too_many_outputs_are_sent_and_not_acknowledged() -> None:
    core = running(Limits(unacknowledged_max=3))
    sent = core.outbox.add(Outputs([record(1)] * 3, []))
    assert not core.accepts_input(0.0)
    core.published(sent[0].token)
    assert core.accepts_input(0.0)


def test_the_sink_remembers_so_many_cells_for_repairs_and_a_forgotten_ones_row_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows_module, "ACCEPTED_CELLS_MAX", 10)
    reader = StateRows("state/0")
    first, second = (1 << 32).to_bytes(8, "big"), (2 << 32).to_bytes(8, "big")
    keys = [rollup_key("org_a", "key_a", "search.knn", 1, offset) for offset in range(30)]
    reader.feed(Record(offset, key, first + ENCODE(["search", 1])) for offset, key in enumerate(keys))
    repair = ((TOMBSTONE_EPOCH_HEADER, second), (TOMBSTONE_REPAIR_HEADER, b""))
    reader.take()
    reader.feed([Record(30, keys[0], None, repair), Record(31, keys[-1], None, repair)])
    assert [row.chunk for row in reader.take().rows] == [29], "only what is remembered is set to zero"


def test_a_form_of_too_many_fields_is_refused() -> None:
    part = '--x\r\nContent-Disposition: form-data; name="f{}"\r\n\r\n1\r\n'
    body = "".join(part.format(number) for number in range(FIELDS_MAX + 1)) + "--x--\r\n"
    with pytest.raises(EngineError, match="more than 1000 fields"):
        read_form("multipart/form-data; boundary=x", body.encode())


class Fake:
    """Stands for chDB: answers nothing, opens nothing."""

    def run(self, _: object) -> Answer:
        return Answer(b"", "{}")

    def close(self) -> None:
        """Nothing is open."""


def test_one_statement_more_than_may_wait_is_told_to_come_again() -> None:
    fake: Any = Fake()
    face = ClickHouseHttp(fake, "sluicegate", "right")
    request = b"POST /?query=SELECT+1&user=sluicegate&password=right\n\n"
    assert ask(face.application(), request)[0]["status"] == 200
    face._accepted = STATEMENTS_RUNNING_MAX + STATEMENTS_WAITING_MAX
    assert ask(face.application(), request)[0]["status"] == 503


def test_a_session_too_many_ends_the_one_that_was_idle_longest() -> None:
    engine: Any = object.__new__(Engine)
    engine._sessions, engine._lock, engine._connect = OrderedDict(), threading.Lock(), Fake
    for number in range(SESSIONS_MAX + 5):
        statement = read_statement({"session_id": f"s{number}"}, b"SELECT 1", headers={})
        with engine._session(statement):
            pass
    assert len(engine._sessions) == SESSIONS_MAX
    assert "s0" not in engine._sessions
    for session in engine._sessions.values():
        session.lock.acquire()
    with (
        pytest.raises(EngineError, match="TOO_MANY_SIMULTANEOUS_QUERIES"),
        engine._session(read_statement({"session_id": "more"}, b"SELECT 1", headers={})),
    ):
        pass


def test_a_price_of_too_many_models_or_steps_is_none() -> None:
    models = {f"m{number}": 1 for number in range(1_001)}
    with pytest.raises(ValidationError):
        ModelPrice(kind="per_model", models=models, credits_micro_default=1)
    steps = [{"up_to": number, "credits_micro": 1} for number in range(101)]
    with pytest.raises(ValidationError):
        StepPrice.model_validate(
            {"kind": "steps", "quantity": "tokens", "steps": tuple(steps), "credits_micro_above": 1}
        )
