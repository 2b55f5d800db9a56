"""Outputs as they are said: nothing durable before its flush stands, sequences that only grow, ids that repeat.

And when all is at rest: the newest of each says what the state says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from sluicegate_schemas.bounds import parse_time
from sluicegate_schemas.envelope import DECODE_FORWARD
from sluicegate_schemas.outputs import is_lease_key

from .. import rows as state
from ..log import LogRecord
from .state_log import StateWatch

_JSON = msgspec.json.Decoder().decode

TWICE: Final = ("org_twice", "key_twice")
"""Known under two accounts, by mistake: two partitions speak of them."""


class OutputWatch:
    """All outputs of all partitions. ``states`` are the state partitions, in order; ``accounts`` is the log of commands
    of each."""

    def __init__(
        self,
        states: Sequence[StateWatch],
        accounts: Callable[[int], Sequence[LogRecord]],
        note: Callable[[str], None],
        seen: Counter[str],
    ) -> None:
        self.states = states
        self.rejects: dict[str, bytes] = {}
        self.forwards: dict[tuple[int, int, int], bytes] = {}
        self.trail: dict[tuple[str, str], bytes] = {}
        """By (account, command id)."""
        self.decisions: dict[str, bytes] = {}
        """By decision id: every decision that was ever said."""
        self.newest: dict[tuple[str, str], tuple[tuple[int, int], Any]] = {}
        """By (topic, record key): the highest sequence and its content."""
        self.finals: dict[tuple[str, str, str], tuple[tuple[int, int], Any]] = {}
        """By (kind, id, month): the final balance with the highest sequence."""
        self._rising: dict[tuple[str, int, int, str], int] = {}
        self.lent: dict[str, str] = {}
        """By lease, the limit and scope that it is of."""
        self._leases: dict[tuple[str, int, int], bytes | None] = {}
        self._entitlements: dict[tuple[bytes | None, int, int], bytes | None] = {}
        self._commands: list[tuple[set[tuple[bytes, bytes]], int]] = [(set(), -1) for _ in states]
        self._accounts = accounts
        self._note = note
        self._seen = seen

    def rejected(self, records: Sequence[LogRecord]) -> None:
        """Rejects were appended."""
        for record in records:
            value = record.value or b""
            body = _JSON(value)
            source, name = body["source"], body["id"]
            watch = self.states[source["partition"]]
            reached = watch.usage_offset if source["topic"] == "usage" else watch.accounts_offset
            if source["offset"] > reached:
                self._note(f"the reject {name} was said before its flush stood (at {reached})")
            if self.rejects.setdefault(name, value) != value:
                self._note(f"the reject {name} was said again with other content: {value!r}")
            self._seen[f"rejects: {body['reason']}"] += 1

    def used(self, records: Sequence[LogRecord]) -> None:
        """Usage was appended: forwards are among it."""
        for record in records:
            value = record.value
            if value is None or value[:2] != b"\x97\x02":
                continue
            forward = DECODE_FORWARD(value)
            origin = forward.partition, forward.offset, forward.index
            if forward.offset > self.states[forward.partition].usage_offset:
                self._note(f"the forward of {origin} was sent before its flush stood")
            if self.forwards.setdefault(origin, value) != value:
                self._note(f"the forward of {origin} was sent again with other content")
            self._seen["forwards"] += 1

    def decided(self, records: Sequence[LogRecord]) -> None:
        """Decisions were appended, and leases."""
        for record in records:
            value = record.value or b""
            body = _JSON(value)
            if is_lease_key(record.key):
                self._lent(record, body)
                continue
            watch = self.states[record.partition]
            if body["sequence"]["epoch"] not in watch.claims:
                self._note(f"the decision {body['decision_id']} was said before its owner's claim stood")
            owner, cause = body["organization_id"], body["cause"] if body["scope"]["kind"] == "key" else None
            if owner is None or (cause is not None and cause["organization_id"] != owner):
                self._note(f"the decision {body['decision_id']} does not say whose it is: {owner}")
            self._sequence("decisions", record, body)
            self.decisions[body["decision_id"]] = value
            of = f" of {body['scope']['kind']}" if body["limit_name"] == "credits" else ""
            self._seen[f"decisions: {body['verdict']} {body['limit_name']}{of}"] += 1

    def _lent(self, record: LogRecord, body: dict[str, Any]) -> None:
        """A lease was said, or that there is none; a new owner may say it again. Its id is where it was asked for."""
        name = body["lease_id"]
        if int(name.partition("-")[2]) > self.states[record.partition].usage_offset:
            self._note(f"the lease {name} was said before its flush stood")
        scope = body["scope"]
        words = body["limit_name"], scope["kind"], scope["id"], scope["label"]
        self.lent[name] = ":".join(word for word in words if word is not None)
        said = name, body["sequence"]["epoch"], body["sequence"]["counter"]
        if (before := self._leases.get(said)) is None:
            self._leases[said] = record.value
            self._sequence("leases", record, body)
        elif before != record.value:
            self._note(f"the lease {said} was said again with other content")

    def balanced(self, records: Sequence[LogRecord]) -> None:
        """Balances were appended."""
        for record in records:
            body = _JSON(record.value or b"")
            watch = self.states[record.partition]
            if body["sequence"]["epoch"] not in watch.claims:
                self._note(f"the balance {record.key!r} was said before its owner's claim stood")
            if body["final"] and (row := watch.rows.get(_ledger_key(record.key or b""))) is not None:
                durable = state.ledger_row(row)
                if (durable.used_micro, durable.requests) != (body["used_micro"], body["requests"]):
                    self._note(f"the final balance {record.key!r} was said before its flush stood")
            if sum(body["breakdown_micro"].values()) != body["used_micro"]:
                self._note(f"the breakdown of the balance {record.key!r} does not sum to what is used")
            self._sequence("balances", record, body)
            sequence = body["sequence"]["epoch"], body["sequence"]["counter"]
            name = body["kind"], body["id"], body["month"]
            if body["final"] and body["kind"] != "label" and sequence > self.finals.get(name, ((-1, 0), None))[0]:
                self.finals[name] = sequence, body
                self._seen["final balances"] += 1

    def entitled(self, records: Sequence[LogRecord]) -> None:
        """Entitlements were appended."""
        for record in records:
            body = _JSON(record.value or b"")
            row = _entitled_row(body)
            if not any(row in watch.ever or row in self._commanded(watch) for watch in self.states):
                self._note(f"the entitlement {record.key!r} was said before its flush stood: {body}")
            said = (record.key, body["sequence"]["epoch"], body["sequence"]["counter"])
            if (before := self._entitlements.get(said)) is None:
                self._entitlements[said] = record.value
                self._sequence("entitlements", record, body)
            elif before != record.value:
                self._note(f"the entitlement {said} was said again with other content")

    def trailed(self, records: Sequence[LogRecord]) -> None:
        """Entries of the audit trail were appended."""
        for record in records:
            value = record.value or b""
            body = _JSON(value)
            if body["source"]["offset"] > self.states[record.partition].accounts_offset:
                self._note(f"the trail's {body['command_id']} was said before its flush stood")
            if self.trail.setdefault((body["account_id"], body["command_id"]), value) != value:
                self._note(f"the trail's {body['command_id']} was said again with other content: {value!r}")
            self._seen[f"commands: {body['command']}"] += 1

    def _commanded(self, watch: StateWatch) -> set[tuple[bytes, bytes]]:
        """The rows that the commands up to the last flush asked for, some of which another command replaced since."""
        commanded, start = self._commands[watch.partition]
        records = [one for one in self._accounts(watch.partition) if start < one.offset <= watch.accounts_offset]
        for record in records:
            commanded.update(_asked_for(record.value or b""))
        self._commands[watch.partition] = commanded, watch.accounts_offset
        return commanded

    def _sequence(self, topic: str, record: LogRecord, body: dict[str, Any]) -> None:
        key = (record.key or b"").decode()
        epoch, counter = body["sequence"]["epoch"], body["sequence"]["counter"]
        place = topic, record.partition, epoch, key
        if counter <= self._rising.get(place, -1):
            self._note(f"{topic}: sequence {(epoch, counter)} of {key} follows {self._rising[place]}")
        self._rising[place] = counter
        newest = self.newest.get((topic, key))
        if newest is None or (epoch, counter) > newest[0]:
            self.newest[topic, key] = (epoch, counter), body
        elif epoch < newest[0][0]:
            self._seen["stale outputs"] += 1

    # At rest.

    def at_rest(self) -> Iterable[str]:
        """What the newest outputs say otherwise than the state."""
        for watch in self.states:
            now_ms = watch.cuts[-1].log_time_ms if watch.cuts else 0
            for key, payload in watch.rows.items():
                if key[:2] == b"d|":
                    yield from self._standing(state.standing_row(payload), key.decode()[2:], now_ms)
                elif key[:2] == b"l|":
                    yield from self._balance(state.ledger_place(key), state.ledger_row(payload))
        yield from self._no_block_by_itself()

    def _standing(self, row: state.StandingRow, key: str, now_ms: int) -> Iterable[str]:
        if (row.until_ms is not None and row.until_ms <= now_ms) or row.scope_id.startswith(TWICE):
            return
        said = self.newest.get(("decisions", key))
        if said is None or said[1]["decision_id"] != row.decision_id:
            yield f"{row.verdict} {key} stands as {row.decision_id}, but the newest said is {said and said[1]}"

    def _no_block_by_itself(self) -> Iterable[str]:
        """A block that was said last and has not ended stands in a state."""
        ends = {watch.partition: watch.cuts[-1].log_time_ms for watch in self.states if watch.cuts}
        for (topic, key), (sequence, body) in self.newest.items():
            if topic != "decisions" or body["verdict"] != "block" or body["scope"]["id"].startswith(TWICE):
                continue
            rows = [
                (watch, state.standing_row(watch.rows[f"d|{key}".encode()]))
                for watch in self.states
                if f"d|{key}".encode() in watch.rows
            ]
            if any(row.decision_id == body["decision_id"] for _, row in rows):
                continue
            owner = next((watch for watch in self.states if sequence[0] in watch.claims), None)
            now_ms = 0 if owner is None else ends[owner.partition]
            if body["until"] is None or parse_time(body["until"]) > now_ms:
                yield f"the block {key} was said last ({body['decision_id']}), and no state knows it"

    def _balance(self, place: state.LedgerPlace, row: state.LedgerRow) -> Iterable[str]:
        said = self.newest.get(("balances", ":".join(place)))
        if said is None:
            if row.used_micro or row.requests:
                yield f"the balance {':'.join(place)} was never said; used is {row.used_micro}"
            return
        total = said[1]["total_micro"] if place.kind == "account" else row.total_micro  # members: what the pool leaves
        is_ = said[1]["used_micro"], said[1]["requests"], total
        if place.name.startswith(TWICE):
            return
        if is_ != (row.used_micro, row.requests, row.total_micro):
            must_be = row.used_micro, row.requests, row.total_micro
            yield f"the balance {':'.join(place)} says {is_} (used, requests, total), must say {must_be}"

    def entitlement(self, name: str) -> dict[str, Any] | None:
        """What was said last of an organization or key, by its record key."""
        said = self.newest.get(("entitlements", name))
        return None if said is None else said[1]


def _entitled_row(body: dict[str, Any]) -> tuple[bytes, bytes]:
    """The state's row that an entitlement repeats, as ``rows.entitled_part``."""
    if body["kind"] == "key":
        part = [body["organization_id"], body["key_sha256"], body["mode"]]
        return f"k|{body['api_key_id']}".encode(), msgspec.msgpack.encode(part)
    part = [body["account_id"], body["tier"], body["credits_micro_per_month"]]
    return f"o|{body['organization_id']}".encode(), msgspec.msgpack.encode(part)


def _ledger_key(record_key: bytes) -> bytes:
    kind, _, rest = record_key.partition(b":")
    name, _, month = rest.rpartition(b":")
    return b"|".join((b"l", kind, name, month))


def _asked_for(value: bytes) -> Iterable[tuple[bytes, bytes]]:
    """The row of an organization or key that a command asks for, if it is one."""
    try:
        body = _JSON(value)
    except msgspec.DecodeError:
        return
    match body.get("kind"):
        case "organization.put":
            yield _entitled_row({"credits_micro_per_month": None, **body, "kind": "organization"})
        case "key.put":
            yield _entitled_row({**body, "kind": "key"})
