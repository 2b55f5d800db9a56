"""The decoders of records and files, each with the errors that it may raise."""

import json
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec
from pydantic import TypeAdapter, ValidationError

from clickhouse.alerts import AlertRows
from clickhouse.decisions import DecisionRows
from clickhouse.month_rows import MonthRows
from clickhouse.record_rows import RecordFormatError
from clickhouse.rows import StateRows
from sluicegate.follower import Outcome, View
from sluicegate.publisher.batcher import Envelope
from sluicegate.publisher.spool import Budget, SpoolQueue
from sluicegate_schemas import bounds
from sluicegate_schemas.accounts import ACCOUNT_COMMAND
from sluicegate_schemas.catalogue import CatalogueRecord
from sluicegate_schemas.decode import Malformed, decode_usage, from_wire, validate_event
from sluicegate_schemas.envelope import ENCODE, TICK, WireEnvelope, WireEvent, WireGauge, WireLeaseRequest
from sluicegate_schemas.files import FileError, load_accounts, load_catalogue
from sluicegate_schemas.gauge_checks import GAUGE_TTL_MS_MAX, IN_FLIGHT_MAX
from sluicegate_schemas.outputs import ENTITLEMENT, Balance, Decision, Reject
from sluicegate_schemas.state import EPOCH_BYTES, TOMBSTONE_EPOCH_HEADER
from sluicegate_schemas.wire_decision import ENCODE_DECISION, WireDecision, decode_decision, to_record
from streams import health
from streams.domain.command_record import RefusedError, decode_command
from streams.domain.gauges import Gauges
from streams.domain.partition import Partition
from streams.engine.fold import Fold, StateFormatError
from tests.domain_world import World, default_catalogue, key_put, organization_put

from .target import SECRET, Target

FOLDER: Final = Path(tempfile.mkdtemp(prefix="sluicegate-fuzz-"))
"""For the decoders that read files; the few bytes in it are written over each time."""


def read_usage(value: bytes) -> Any:
    """A usage record with all its events checked: those of an envelope are judged one by one."""
    decoded = decode_usage(value)
    if isinstance(decoded, WireEnvelope):
        for event in decoded.events:
            validate_event(event)
            _within_the_models_bounds(event)
        assert len(decoded.events) <= bounds.ENVELOPE_EVENTS_MAX
    elif isinstance(decoded, WireEvent):
        json.loads(value, object_pairs_hook=_distinct)
    return decoded


def _distinct(pairs: list[tuple[str, object]]) -> None:
    assert len(dict(pairs)) == len(pairs), "takes a field given twice"


def _within_the_models_bounds(event: WireEvent) -> None:
    """Holds what the wire's checks let through against the JSON model, which knows the bounds by itself."""
    try:
        from_wire(msgspec.structs.replace(event, id=event.id or "named"))
    except ValidationError as error:
        raise AssertionError(f"the model refuses {error.errors()[0]['loc']}") from error


def write_usage(decoded: Any) -> bytes:
    """Envelopes and forwards as they travel, an event as JSON."""
    if isinstance(decoded, WireEvent):
        return from_wire(decoded).model_dump_json(exclude_none=True).encode()
    return ENCODE(decoded)


def machine() -> World:
    """A partition whose every paid event decides something."""
    world = World()
    world.obey(
        organization_put("org_acme", "free", credits_micro_per_month=1,
                         rates={"requests_per_second": 1, "burst": 1, "requests_per_minute": 1}),
        key_put("key_acme_1", "org_acme"),
    )  # fmt: skip
    world.durable.clear()
    return world


def count_usage(value: bytes) -> str:
    """What becomes of a usage record in a partition: no bytes may stop it, all of it is accounted for."""
    world = machine()
    before = world.machine.totals.counted
    offset = world.append(value, accounts_current=True)
    totals = world.machine.totals
    told = totals.counted - before + totals.duplicate + totals.rejected + totals.forwarded
    assert offset == 0, "the record was taken in"
    assert told >= 1 or value == TICK or not _holds_events(value), "nothing is dropped in silence"
    assert len(world.rejects) == totals.rejected
    assert all(decision.scope.id in ("key_acme_1", "org_acme") for decision in world.decisions)
    for key, payload in world.rows.items():
        if key.startswith(b"l|"):
            ledger = msgspec.msgpack.decode(payload)
            assert sum(ledger[4]) == ledger[3], "the breakdown sums to what is used"
    world.take_over()
    return "counted" if totals.counted else "refused"


def _holds_events(value: bytes) -> bool:
    try:
        return not isinstance(decode_usage(value), WireGauge | WireLeaseRequest)
    except Malformed:
        return True


def hear_gauge(value: bytes) -> str:
    """What becomes of a gauge in a partition: it is counted until its time is over, or rejected by name."""
    world = machine()
    world.append(value)
    found = [one for one in world.machine.participants.all if isinstance(one, Gauges)]
    in_flight = found[0].in_flight_of("org_acme")
    assert 0 <= in_flight <= IN_FLIGHT_MAX
    held = {key: payload for key, payload in world.rows.items() if key.startswith(b"v|")}
    assert held or world.rejects or _holds_events(value) or value == TICK, "nothing is dropped in silence"
    world.take_over()
    found = [one for one in world.machine.participants.all if isinstance(one, Gauges)]
    assert found[0].in_flight_of("org_acme") == in_flight, "a new owner knows the same"
    world.pass_time(world.log_time_ms + GAUGE_TTL_MS_MAX)
    assert not [key for key in world.rows if key.startswith(b"v|")], "its time is over"
    newest = {(one.limit_name, one.scope.text()): one.verdict for one in world.decisions}
    assert not [key for key, verdict in newest.items() if "concurrency" in key[0] and verdict == "block"]
    return "counted" if held else "refused"


def obey(value: bytes) -> Any:
    """An operator command in a partition, after the border has read it."""
    world = machine()
    world.obey(value)
    told = world.machine.totals.commands + world.machine.totals.commands_repeated + len(world.rejects)
    assert told == 3, "obeyed, repeated or refused"
    for reject in world.rejects:
        _harmless(f"{reject.field} {reject.detail}")
    world.take_over()
    return decode_command(value)


def _harmless(text: str) -> None:
    assert "0123456789abcdef" not in text, "repeats what may be a secret"
    assert text.isprintable(), "holds control signs"


def _command_says(error: Exception) -> str:
    assert isinstance(error, RefusedError)
    return f"{error.field}: {error}"


def _json(model: Any) -> tuple[Any, Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    return adapter.validate_json, adapter.dump_json


class StateRecord(NamedTuple):
    """A record of the state topic."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def state_records(value: bytes) -> list[StateRecord]:
    """The records that ``value`` describes: a MessagePack array of [key, epoch, payload, headers], as far as it does.

    A payload of bytes stands as it is, anything else is encoded; null is a tombstone.
    """
    try:
        described = msgspec.msgpack.decode(value)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return []
    records = []
    for offset, one in enumerate(described if isinstance(described, list) else []):
        if not isinstance(one, list) or len(one) < 3:
            continue
        key, epoch, payload, *rest = one
        key = key.encode(errors="replace") if isinstance(key, str) else key if isinstance(key, bytes) else None
        prefix = epoch.to_bytes(EPOCH_BYTES, "big") if isinstance(epoch, int) and 0 <= epoch < 2**64 else b"\x00"
        names = [name for name in (rest[0] if rest and isinstance(rest[0], list) else []) if isinstance(name, str)]
        headers = [(name, b"") for name in names]
        content: bytes | None = None
        if payload is None:
            headers.append((TOMBSTONE_EPOCH_HEADER, prefix))
        else:
            content = prefix + (payload if isinstance(payload, bytes) else msgspec.msgpack.encode(payload))
        records.append(StateRecord(offset, key, content, tuple(headers)))
    return records


def fold(value: bytes) -> tuple[int, int]:
    """A state log, as a recovery folds it."""
    folded = Fold()
    for record in state_records(value):
        folded.feed(record.key, record.value, record.headers)
    folded.check()
    return len(folded.rows), folded.void_records


def state_rows(value: bytes) -> int:
    """A state log, as the sink reads it: every row fits its columns."""
    reader = StateRows("state/0")
    reader.feed(state_records(value))
    cut = reader.take()
    for row in cut.rows:
        assert 0 <= row.minute < 2**32
        assert all(0 <= count < 2**64 for count in (row.chunk, row.requests, row.errors, row.throttled, row.units))
        assert all(0 <= count < 2**64 for count in (row.events, row.rated_version))
        assert -(2**63) <= row.credits_micro < 2**63
        assert 0 <= row.version < 2**128
    for time_ms in (cut.oldest_log_time_ms, cut.newest_log_time_ms):
        assert time_ms is None or 0 <= time_ms < bounds.EPOCH_MS_MAX
    return len(cut.rows)


def restore(value: bytes) -> int:
    """Rows of every table, as a new owner takes them in."""
    partition = Partition(0, 1)
    partition.use_catalogues([default_catalogue()])
    count = 0
    for record in state_records(value):
        if record.key is not None and record.value is not None:
            partition.restore(record.key, record.value[EPOCH_BYTES:])
            count += 1
    return count


_TOPICS: Final = ("catalog", "entitlements", "decisions")


def follow(value: bytes) -> str:
    """A record as a gate folds it: under each topic and under several keys, and never an exception."""
    view = View()
    outcomes: Counter[Outcome] = Counter()
    for topic in _TOPICS:
        for key in _keys(value):
            outcomes[view.apply(topic, key, value).outcome] += 1
    return str(sorted(outcomes))


def _keys(value: bytes) -> list[bytes | None]:
    keys: list[bytes | None] = [value[:64], b"1", None]
    try:
        content = json.loads(value)
        scope = content.get("scope", {})
        keys += [
            f"{content.get('limit_name')}:{scope.get('kind')}:{scope.get('id')}".encode(),
            f"key:{content.get('key_sha256')}".encode(),
            f"organization:{content.get('organization_id')}".encode(),
            str(content.get("catalogue", {}).get("version")).encode(),
        ]
    except (ValueError, AttributeError, RecursionError):
        pass
    return keys


def read_decision(value: bytes) -> WireDecision:
    """A decision, as gates and the sink read it, which the model takes too."""
    decision = decode_decision(value)
    try:
        to_record(decision)
    except ValidationError as error:
        raise AssertionError(f"the model refuses {error.errors()[0]['loc']}") from error
    return decision


def decision_rows(value: bytes) -> Any:
    """A decision as the sink reads it: its row fits its columns."""
    reader = DecisionRows("decisions/0")
    reader.feed([StateRecord(0, b"key", value, ())])
    (row,) = reader.take()
    assert 0 <= row.limit_value < 2**63
    assert 0 <= row.observed < 2**63
    assert 0 <= row.plan_version < 2**32
    assert 0 <= row.cause_partition < 2**31
    assert 0 <= row.cause_index < 2**31
    assert 0 <= row.cause_offset < 2**63
    assert 0 <= row.version < 2**128
    return row


def alert_rows(value: bytes) -> Any:
    """An alert as the sink reads it: its row fits its columns."""
    reader = AlertRows("alerts/0")
    reader.feed([StateRecord(0, b"key", value, ())])
    (row,) = reader.take()
    assert all(0 <= number < 2**63 for number in (row.threshold, row.observed, row.limit_value or 0, row.plan_version))
    return row


def month_rows(value: bytes) -> Any:
    """A balance as the sink reads it: its row, if it has one, fits its columns."""
    reader = MonthRows("balances/0")
    reader.feed([StateRecord(0, b"key", value, ())])
    rows = reader.take()
    for row in rows:
        amounts = row.used_micro, row.total_micro or 0, *row.breakdown_micro.values(), *row.corrections_micro.values()
        assert all(-(2**63) <= amount < 2**63 for amount in amounts)
        assert 0 <= row.version < 2**128
        assert 0 <= row.as_of < bounds.EPOCH_MS_MAX
    return rows


def spool(value: bytes) -> list[Envelope]:
    """A segment that a dead process left, sent to its end."""
    path = FOLDER / "3-000000000001.spool"
    path.write_bytes(value)
    said: list[str] = []
    queue = SpoolQueue(FOLDER, 3, Budget(10**9, lambda kind, text: said.append(text)))
    found = []
    try:
        queue.load([1])
        while (envelope := queue.peek()[0]) is not None:
            assert len(envelope.value) <= bounds.ENVELOPE_BYTES_MAX + 1024
            assert 0 < envelope.events <= bounds.ENVELOPE_EVENTS_MAX
            found.append(envelope)
            queue.pop()
    finally:
        queue.close()
        path.unlink(missing_ok=True)
    return found


def spool_frames(value: bytes) -> list[Envelope]:
    """The same for frames whose checksums are right: a MessagePack array of [events, key, envelope]."""
    try:
        frames = msgspec.msgpack.decode(value, type=list[tuple[int, bytes, bytes]])
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return []
    content = b""
    for events, key, envelope in frames:
        tail = struct.pack(">HH", events & 0xFFFF, len(key) & 0xFFFF)
        content += struct.pack(">II", len(key + envelope), crc32(key + envelope, crc32(tail))) + tail + key + envelope
    return spool(content)


def health_file(value: bytes) -> str | None:
    """The file by which a process says that it works."""
    (FOLDER / health.FILE_NAME).write_bytes(value)
    return health.complaint(FOLDER, max_age_s=1e9)


def _to_the_operator(error: Exception) -> str:
    """A message names what is in a file, to the one whose file it is; but no control signs reach a terminal."""
    return str(error).replace(SECRET, "")


def toml(load: Any) -> Any:
    """``load`` for bytes; what is not UTF-8 never reaches it."""
    return lambda value: load(value.decode("utf-8", "replace"))


def _target(name: str, model: Any) -> Target:
    decode, encode = _json(model)
    return Target(name, "json", decode, (ValidationError,), encode, says=None)


RECORDS: Final = (
    Target("usage_envelope", "msgpack", read_usage, (Malformed,), write_usage),
    Target("usage_json", "json", read_usage, (Malformed,), write_usage),
    Target("machine_envelope", "msgpack", count_usage, ()),
    Target("machine_gauge", "msgpack", hear_gauge, ()),
    Target("machine_json", "json", count_usage, ()),
    Target("command", "json", decode_command, (RefusedError,), ACCOUNT_COMMAND.dump_json, says=_command_says),
    Target("machine_command", "json", obey, (RefusedError,), says=None),
    _target("catalogue", CatalogueRecord),
    _target("entitlement", ENTITLEMENT._type),
    _target("decision", Decision),
    Target("wire_decision", "json", read_decision, (Malformed,), ENCODE_DECISION),
    _target("balance", Balance),
    _target("reject", Reject),
    Target("follower", "json", follow, ()),
    Target("sink_decision", "json", decision_rows, (RecordFormatError,), says=None),
    Target("sink_balance", "json", month_rows, (RecordFormatError,), says=None),
    Target("sink_alert", "json", alert_rows, (RecordFormatError,), says=None),
    Target("sink_state", "msgpack", state_rows, (StateFormatError,)),
    Target("state_fold", "msgpack", fold, (StateFormatError,)),
    Target("state_restore", "msgpack", restore, (ValueError,), says=None),
    Target("spool", "bytes", spool, (OSError,)),
    Target("spool_frames", "msgpack", spool_frames, (OSError,)),
    Target("toml_catalogue", "bytes", toml(load_catalogue), (FileError,), says=_to_the_operator),
    Target("toml_accounts", "bytes", toml(load_accounts), (FileError,), says=_to_the_operator),
    Target("health", "json", health_file, ()),
)
