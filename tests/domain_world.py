"""A partition's machine in a small world for tests: a log that grows, rows that are kept, outputs that are read."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.envelope import ENCODE, WireCharge, WireEnvelope, WireEvent
from sluicegate_schemas.files import load_catalogue
from sluicegate_schemas.outputs import Decision, Reject, TrailEntry
from sluicegate_schemas.state import DECODE_ROLLUP_CELL, OutboxRecord, RollupCell, parse_rollup_key
from streams.domain.partition import Partition
from streams.domain.settings import DomainSettings
from streams.domain.tables import LedgerRow, StandingRow

NOW_MS = 1_795_291_200_000
"""2026-11-21T20:00:00Z."""
EPOCH = 1 << 32
GROUPS = ("documents", "inference", "search", "compute", "storage", "upload")


@cache
def default_catalogue() -> Catalogue:
    """The catalogue that the project ships."""
    return load_catalogue((Path(__file__).parents[1] / "catalogue" / "default.toml").read_text())


def usage(
    operation: str = "documents.get",
    *,
    key: str | None = "key_a",
    org: str = "org_a",
    ts: int = NOW_MS,
    started: int | None = None,
    status: int = 200,
    quantities: dict[str, int] | None = None,
    model: str | None = None,
    cached: bool = False,
    charges: list[WireCharge] | None = None,
    event_id: str | None = None,
    account: str | None = None,
) -> WireEvent:
    """One event; it took no time unless ``started`` says so."""
    started = ts if started is None else started
    return WireEvent(
        event_id, org, key, operation, started, ts, ts - started, status, quantities, model, cached, charges,
        account_id=account,
    )  # fmt: skip


def organization_put(org: str = "org_a", tier: str = "pro", command_id: str | None = None, **fields: Any) -> bytes:
    """The command record that makes ``org`` or changes its tier."""
    return command(f"put-{org}-{tier}", command_id, "organization.put", org, fields, tier=tier)


def key_put(
    key: str = "key_a", org: str = "org_a", mode: str = "live", command_id: str | None = None, **fields: Any
) -> bytes:
    """The command record that makes ``key``."""
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    more = {"api_key_id": key, "key_sha256": sha256, "mode": mode}
    return command(f"key-{key}", command_id, "key.put", org, more | fields)


def key_revoke(key: str = "key_a", org: str = "org_a", **fields: Any) -> bytes:
    """The command record that ends ``key``."""
    return command(f"revoke-{key}", None, "key.revoke", org, {"api_key_id": key} | fields)


def key_quota_off(org: str = "org_a") -> bytes:
    """The command record that lets ``org`` have as many keys as a test needs."""
    fields = {"exemption_id": "keys", "limit_name": "quota_api_keys"}
    times = {"effective_at": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"}
    return command(f"keys-{org}", None, "exemption.put", org, fields | times)


def command(default_id: str, command_id: str | None, kind: str, org: str, fields: dict[str, Any], **more: Any) -> bytes:
    """The command record of a ``kind`` about ``org``; ``fields`` win over all else."""
    base = {
        "command_id": command_id or default_id,
        "issued_at": "2026-01-01T00:00:00Z",
        "issued_by": "tests",
        "account_id": org,
        "organization_id": org,
        "kind": kind,
    }
    return json.dumps({**base, **more, **fields}).encode()


class World:
    """One machine with its log, its rows as flushed, and what it sent."""

    def __init__(
        self,
        settings: DomainSettings | None = None,
        catalogues: Iterable[Catalogue] = (),
        partition: int = 0,
        partitions: int = 1,
    ) -> None:
        self.settings = settings
        self.catalogues = list(catalogues) or [default_catalogue()]
        self.place = partition, partitions
        self.rows: dict[bytes, bytes] = {}
        self.early: list[OutboxRecord] = []
        self.durable: list[OutboxRecord] = []
        self.balances: list[OutboxRecord] = []
        self.offset = -1
        self.accounts_offset = -1
        self.epoch = EPOCH
        self.state_end = 0
        """The end of the state log, as the machine is told of it."""
        self.log_time_ms = NOW_MS
        self.clock_ms = 0
        """Of whoever asks for balances: a second passes each time."""
        self.sequences: dict[str, int] = {}
        self.machine = self._machine()
        self.machine.resume(self.epoch, 0, 0)

    def _machine(self) -> Partition:
        machine = Partition(*self.place, self.settings)
        machine.use_catalogues(self.catalogues)
        return machine

    def obey(self, *commands: bytes, at: int | None = None) -> None:
        """Appends commands and applies them."""
        for command in commands:
            self.accounts_offset += 1
            self._at(at)
            self.machine.apply_accounts([(self.accounts_offset, self.log_time_ms, None, command)])
        self.flush()

    def _at(self, at: int | None) -> None:
        if at is not None:
            self.log_time_ms = at

    def append(self, value: bytes | None, at: int | None = None, *, accounts_current: bool = True) -> int:
        """Appends one usage record at log time ``at`` and applies it; returns its offset."""
        self._at(at)
        self.offset += 1
        record = (self.offset, self.log_time_ms, None, value)
        consumed = self.machine.apply_usage([record], accounts_current=accounts_current)
        if not consumed:
            self.offset -= 1
        self.flush()
        return self.offset

    def envelope(self, *events: WireEvent, producer: str = "p1", sequence: int | None = None) -> bytes:
        """An envelope of ``events``, the producer's next unless ``sequence`` says otherwise."""
        if sequence is None:
            sequence = self.sequences[producer] = self.sequences.get(producer, 0) + 1
        return ENCODE(WireEnvelope(1, producer, 1, sequence, NOW_MS, None, list(events)))

    def send(self, *events: WireEvent, at: int | None = None, producer: str = "p1") -> int:
        """Sends ``events`` as one envelope."""
        return self.append(self.envelope(*events, producer=producer), at)

    def pass_time(self, to: int) -> None:
        """Time passes in the log."""
        self._at(to)
        self.machine.advance(to)
        self.flush()

    def flush(self) -> None:
        """Keeps what changed and what goes out."""
        changes = self.machine.take_changes()
        self.state_end += len(changes) + 1
        self.machine.flushed(1, self.state_end)
        for key, payload in changes:
            if payload is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = payload
        outputs = self.machine.take_outputs()
        self.early += outputs.early
        self.durable += outputs.durable
        self.clock_ms += 1_000
        self.balances += self.machine.take_current(1_000, self.clock_ms)

    def take_over(self) -> None:
        """The owner dies after its last flush; a new one recovers the rows."""
        self.recover()
        self.flush()

    def recover(self) -> None:
        """The same, and nobody asks the new one for anything yet."""
        self.epoch += 1 << 32
        self.machine = self._machine()
        for key, payload in sorted(self.rows.items()):
            self.machine.restore(key, payload)
        self.machine.resume(self.epoch, 1, self.log_time_ms)

    @property
    def decisions(self) -> list[Decision]:
        """All decisions so far."""
        return [Decision.model_validate_json(one.value) for one in self.early]

    @property
    def rejects(self) -> list[Reject]:
        """All rejects so far."""
        return [Reject.model_validate_json(one.value) for one in self.durable if one.topic == "rejects"]

    def sent(self, topic: str) -> list[dict[str, Any]]:
        """What went out with the flushes to ``topic``, as JSON."""
        return [json.loads(one.value) for one in self.durable if one.topic == topic]

    @property
    def trail(self) -> list[TrailEntry]:
        """The audit trail so far."""
        return [TrailEntry.model_validate_json(one.value) for one in self.durable if one.topic == "trail"]

    @property
    def cells(self) -> dict[tuple[str, str, str, int, int], RollupCell]:
        """The rollup cells in the state."""
        cells = (item for item in self.rows.items() if item[0].startswith(b"c|"))
        return {parse_rollup_key(key): DECODE_ROLLUP_CELL(payload) for key, payload in cells}

    def standing(self) -> dict[str, StandingRow]:
        """The standing decisions in the state, by record key."""
        rows = (item for item in self.rows.items() if item[0].startswith(b"d|"))
        return {key.decode()[2:]: msgspec.msgpack.decode(payload, type=StandingRow) for key, payload in rows}

    def used(self, kind: str, identifier: str, month: str = "2026-11") -> int:
        """What a ledger row says is used; its breakdown has to say the same."""
        row = self.ledger(kind, identifier, month)
        assert sum(row.breakdown_micro) == row.used_micro
        return row.used_micro

    def ledger(self, kind: str, identifier: str, month: str = "2026-11") -> LedgerRow:
        """A ledger row."""
        return msgspec.msgpack.decode(self.rows[f"l|{kind}|{identifier}|{month}".encode()], type=LedgerRow)


def small_world(tier: str = "pro", **kwargs: Any) -> World:
    """A world with organization org_a and its keys key_a (live) and key_t (test)."""
    world = World(**kwargs)
    quota_off = [key_quota_off()] if tier == "free" else []  # two keys are all that it may have
    world.obey(organization_put(tier=tier), *quota_off, key_put(), key_put("key_t", mode="test"))
    world.durable.clear()
    return world
