"""Whatever operators do, in whatever order, and whenever an owner dies: the limits in force are those of a naive model,
gates are told just those, and the audit trail holds each command once."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate_schemas.accounts import ACCOUNT_COMMAND
from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.outputs import ENTITLEMENT, KeyEntitlement, OrganizationEntitlement, TrailEntry
from sluicegate_schemas.state import OutboxRecord
from sluicegate_schemas.usage import ResourceName
from streams.domain.partition import Partition
from tests.domain_world import EPOCH, NOW_MS
from tests.property.limits_reference import CATALOGUES, MINUTE_MS, Model

ORGANIZATIONS = ("org_a", "org_b")
KEYS = ("key_1", "key_2", "key_3")
LIMITS = ("requests_per_minute", "concurrency", "quota_collections")


# ---- the machine, with a log that outlives it ----


class Owners:
    """One machine after another over the same log; a new one begins at the last flush."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.log: list[tuple[int, bytes | None]] = []
        """(log time, command; None: time passes)."""
        self.flushed = 0
        self.flushed_ms = 0
        self.sent: list[OutboxRecord] = []
        self.epoch = EPOCH
        self.machine = self._machine()

    def _machine(self) -> Partition:
        machine = Partition(0, 1)
        machine.use_catalogues(CATALOGUES)
        for key, payload in sorted(self.rows.items()):
            machine.restore(key, payload)
        machine.resume(self.epoch, 1, self.flushed_ms)
        return machine

    def append(self, log_time_ms: int, command: bytes | None) -> None:
        """The log grows, and the machine follows."""
        self.log.append((log_time_ms, command))
        self._apply(len(self.log) - 1)

    def _apply(self, offset: int) -> None:
        log_time_ms, command = self.log[offset]
        if command is None:
            self.machine.advance(log_time_ms)
        else:
            self.machine.apply_accounts([(offset, log_time_ms, None, command)])

    def flush(self) -> None:
        """What changed is kept, what waited for it goes out."""
        for key, payload in self.machine.take_changes():
            if payload is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = payload
        self.sent += self.machine.take_outputs().durable
        self.flushed, self.flushed_ms = len(self.log), self.machine.log_time_ms

    def kill(self) -> None:
        """The owner dies; the next one repeats what no flush holds."""
        self.epoch += 1 << 32
        self.machine = self._machine()
        for offset in range(self.flushed, len(self.log)):
            self._apply(offset)

    def told(self) -> dict[bytes, KeyEntitlement | OrganizationEntitlement]:
        """The newest entitlement of each record key."""
        newest: dict[bytes, KeyEntitlement | OrganizationEntitlement] = {}
        for record in (one for one in self.sent if one.topic == "entitlements"):
            found, known = ENTITLEMENT.validate_json(record.value), newest.get(record.key or b"")
            rank = found.sequence.epoch, found.sequence.counter
            if known is None or rank > (known.sequence.epoch, known.sequence.counter):
                newest[record.key or b""] = found
        return newest


def check(owners: Owners, model: Model) -> None:
    """Every limit in force is the model's."""
    plans = owners.machine.plans
    for organization_id, put in model.organizations.items():
        assert plans.organization_rates(organization_id) == model.rates(organization_id)
        assert plans.concurrency_of(organization_id) == model.concurrency(organization_id)
        for resource in get_args(ResourceName):
            assert plans.quota_of(organization_id, resource) == model.quota(organization_id, resource), resource
        assert plans.shares_of(organization_id) == (put.shares or model.plan(organization_id).shares)
        assert plans.credits_mode_of(organization_id) == (put.credits_mode or model.plan(organization_id).credits_mode)
        for limit_name in LIMITS:
            off = limit_name in model.exempt(organization_id, None)
            assert plans.is_exempt(organization_id, None, limit_name) == off
            for api_key_id in (one for one in KEYS if model.has_key(organization_id, one)):
                off_for_key = off or limit_name in model.exempt(organization_id, api_key_id)
                assert plans.is_exempt(organization_id, api_key_id, limit_name) == off_for_key
                assert plans.rates_of(api_key_id) == model.rates(organization_id)


def check_told(owners: Owners, model: Model) -> None:
    """What gates were told last gives them just the limits in force; null is the plan's."""
    told = owners.told()
    for organization_id in model.organizations:
        record, plan = told[f"organization:{organization_id}".encode()], model.plan(organization_id)
        assert isinstance(record, OrganizationEntitlement)
        rates = record.rates or plan.rates
        assert (None if rates is None else tuple(rates.model_dump().values())) == model.rates(organization_id)
        concurrency = plan.concurrency if record.concurrency is None else record.concurrency
        assert concurrency == model.concurrency(organization_id)
        quotas = plan.quotas if record.quotas is None else record.quotas
        for resource in get_args(ResourceName):
            assert quotas.get(resource) == model.quota(organization_id, resource), resource
        assert record.exempt == model.exempt(organization_id, None)
    for api_key_id, put in model.keys.items():
        key = told[f"key:{put.key_sha256}".encode()]
        assert isinstance(key, KeyEntitlement)
        assert (key.mode, key.revoked) == (put.mode, api_key_id in model.revoked)
        assert key.exempt == model.exempt(put.organization_id, api_key_id)


def check_trail(owners: Owners, model: Model) -> None:
    """The trail holds each command that acted, in order; a copy that a dead owner sent is the same."""
    records = [one.value for one in owners.sent if one.topic == "trail"]
    entries = {one.command_id: one for one in map(TrailEntry.model_validate_json, records)}
    assert list(entries) == list(model.done)
    assert len(records) == len(entries)
    text = b"".join(records).decode()
    assert not any(put.key_sha256 in text for put in model.keys.values())
    for entry in entries.values():
        assert (entry.before is None) or (entry.after is None) or entry.before.keys() | entry.after.keys()


# ---- histories ----

_RATES = st.builds(
    lambda second, burst, minute: {"requests_per_second": second, "burst": burst, "requests_per_minute": minute},
    st.sampled_from([5, 150, 400]), st.sampled_from([10, 250, 900]), st.sampled_from([50, 900, 4_000]),
)  # fmt: skip
_QUOTAS = st.dictionaries(
    st.sampled_from(["collections", "buckets", "api_keys"]), st.sampled_from([None, 0, 7, 300]), max_size=2
)
_CONCURRENCY = st.sampled_from([1, 60, 500])
_MORE: dict[str, st.SearchStrategy[Any]] = {"rates": _RATES, "quotas": _QUOTAS}
_OWN = st.fixed_dictionaries(
    {"tier": st.sampled_from(["free", "pro", "team", "enterprise"])},
    optional={
        **_MORE,
        "concurrency": _CONCURRENCY,
        "shares": st.sampled_from([{"compute": 3}, {"data": 100, "compute": 25}]),
        "credits_mode": st.sampled_from(["soft", "hard"]),
        "features": st.just({"modalities": ["text"]}),
        "failure_modes": st.just({"compute": {"mode": "closed"}}),
    },
)
_ORGANIZATION = st.sampled_from(ORGANIZATIONS)
_KEY = st.sampled_from(KEYS)
_BEGIN = st.integers(-20, 40)
_LENGTH = st.integers(1, 90)


@dataclass
class Step:
    """A command (``fields`` of it; ``begin`` and ``length`` in minutes for its times), or what ``kind`` says."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    begin: int = 0
    length: int = 0


def _timed(kind: str, name: str, more: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Step]:
    fields = st.builds(
        lambda organization, identifier, rest: {"organization_id": organization, name: identifier, **rest},
        _ORGANIZATION, st.sampled_from(["one", "two"]), more,
    )  # fmt: skip
    return st.builds(Step, st.just(kind), fields, _BEGIN, _LENGTH)


def _about(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.just(kind), st.fixed_dictionaries({"organization_id": _ORGANIZATION, **fields}))


_STEPS = st.one_of(
    st.builds(lambda name, own: Step("organization.put", {"organization_id": name, **own}), _ORGANIZATION, _OWN),
    _about("key.put", api_key_id=_KEY, mode=st.sampled_from(["live", "test"])),
    _about("key.revoke", api_key_id=_KEY),
    _timed("boost.put", "boost_id", st.fixed_dictionaries({"concurrency": _CONCURRENCY}, optional=_MORE)),
    _about("boost.end", boost_id=st.sampled_from(["one", "two"])),
    _timed(
        "exemption.put",
        "exemption_id",
        st.fixed_dictionaries({"limit_name": st.sampled_from(LIMITS)}, optional={"api_key_id": _KEY}),
    ),
    _about("exemption.end", exemption_id=st.sampled_from(["one", "two"])),
    st.builds(Step, st.just("pass"), begin=st.integers(1, 25)),
    st.builds(Step, st.sampled_from(["flush", "kill", "flush and kill", "repeat"])),
)


def _record(step: Step, number: int, now_ms: int) -> bytes:
    fields = dict(step.fields)
    if step.length:
        begin_ms = now_ms + step.begin * MINUTE_MS
        fields["effective_at"] = from_epoch_ms(begin_ms).isoformat()
        fields["until"] = from_epoch_ms(begin_ms + step.length * MINUTE_MS).isoformat()
    if step.kind == "key.put":
        fields["key_sha256"] = hashlib.sha256(fields["api_key_id"].encode()).hexdigest()
    base = {"kind": step.kind, "command_id": f"c{number}", "issued_at": "2026-01-01T00:00:00Z", "issued_by": "tests"}
    return json.dumps({**base, "account_id": fields["organization_id"], **fields}).encode()


_BEGINNING = [
    *(Step("organization.put", {"organization_id": name, "tier": "team"}) for name in ORGANIZATIONS),
    *(Step("key.put", {"organization_id": "org_a", "api_key_id": name, "mode": "live"}) for name in KEYS[:2]),
]


@pytest.mark.contract("1.1", "1.15", "1.18")
@settings(max_examples=40)
@given(st.lists(_STEPS, min_size=20, max_size=60))
def test_limits_in_force_are_those_of_the_model_whatever_happens(steps: list[Step]) -> None:
    owners, model = Owners(), Model()
    owners.append(NOW_MS, None)
    last: bytes | None = None
    for number, step in enumerate([*_BEGINNING, *steps]):
        match step.kind:
            case "pass":
                model.now_ms += step.begin * MINUTE_MS
                owners.append(model.now_ms, None)
            case "flush" | "kill" | "flush and kill":
                if "flush" in step.kind:
                    owners.flush()
                    check_told(owners, model)
                if "kill" in step.kind:
                    owners.kill()
            case "repeat" if last is None:
                continue
            case _:
                record = last if step.kind == "repeat" and last is not None else _record(step, number, model.now_ms)
                last = record
                owners.append(model.now_ms, record)
                model.obey(ACCOUNT_COMMAND.validate_json(record))
        check(owners, model)
    owners.flush()
    owners.kill()
    check(owners, model)
    owners.flush()
    check_told(owners, model)
    check_trail(owners, model)
    of_overrides = [key for key in owners.rows if key.startswith(b"g|")]
    alive = [
        one for one in (*model.boosts.values(), *model.exemptions.values()) if to_epoch_ms(one.until) > model.now_ms
    ]
    assert len(of_overrides) == len(alive)
    assert all(msgspec.msgpack.decode(owners.rows[key])[1] > model.now_ms for key in of_overrides)
