"""What the world outside sends: envelopes of SDKs, other clients' events, repeats, poison, operators' commands.

Requests through gateways are in ``gateway``. Each kind is a function from a send to the records that it puts on the
wire; a new kind is one more entry of ``KINDS``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from sluicegate_schemas.envelope import (
    DECODE_ENVELOPE,
    ENCODE,
    GAUGE_VERSION,
    WireEnvelope,
    WireEvent,
    WireGauge,
    WireInFlight,
)
from sluicegate_schemas.partitioning import partition_of
from sluicegate_schemas.topics import ACCOUNTS, CATALOG, USAGE

from . import events, orders, tenants
from .plan import MINUTE_MS, Plan, Send
from .tenants import TENANTS, TIERS, TWICE


class Outgoing(NamedTuple):
    """A record on its way to a topic (without prefix)."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class Producer:
    """An SDK's side of the log: who it is, and its last sequence in each partition."""

    def __init__(self, name: str) -> None:
        self.producer_id = name
        self.epoch = 1
        self.sequences: dict[int, int] = {}

    def seal(self, partition: int, events: list[WireEvent], now_ms: int, *, skip: int = 0) -> bytes:
        """The next envelope to ``partition``; ``skip`` envelopes before it are lost with their process."""
        sequence = self.sequences[partition] = self.sequences.get(partition, 0) + 1 + skip
        return ENCODE(WireEnvelope(1, self.producer_id, self.epoch, sequence, now_ms, None, events))


class Traffic:
    """What of the outside world lasts between two sends."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.partitions = plan.partitions
        self.producers = [Producer(f"sdk{number}") for number in range(3)]
        self.sent: list[Outgoing] = []
        self.commands: list[Outgoing] = []
        self.catalogue_version = 1
        self.boots = [0, 0, 0]
        self.given: orders.Given = []
        self.puts: dict[str, list[int]] = {}
        """Where puts of each organization stand, those too that were refused."""

    def stands(self, record: Outgoing, offset: int) -> None:
        """``record`` came into the log: what operators know that make a change from it."""
        if record.topic == ACCOUNTS.name and b'"kind": "organization.put", "organization_id"' in (record.value or b""):
            self.puts.setdefault(json.loads(record.value or b"")["organization_id"], []).append(offset)

    def home(self, account_id: str) -> int:
        """The partition of an account."""
        return partition_of(account_id, self.partitions)

    def records(self, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
        """What ``send`` puts on the wire; ``now_ms`` is the sender's clock."""
        made = KINDS[send.kind](self, send, draw, now_ms)
        self.sent += [record for record in made if record.topic == USAGE.name]
        self.commands += [record for record in made if record.topic == ACCOUNTS.name]
        return made

    def usage(self, partition: int, value: bytes | None, key: str | None = None) -> Outgoing:
        """A record of the usage topic."""
        return Outgoing(USAGE.name, partition, None if key is None else key.encode(), value)

    def envelopes(self, producer: Producer, found: list[WireEvent], now_ms: int) -> list[Outgoing]:
        """``found`` as the SDK sends it: an envelope to each account's partition."""
        by_home: dict[int, list[WireEvent]] = {}
        for event in found:
            by_home.setdefault(self.home(event.account_id or event.org_id), []).append(event)
        return [self.usage(home, producer.seal(home, some, now_ms)) for home, some in by_home.items()]


def _envelope(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    tenant = events.some_tenant(draw)
    found = [
        events.some_event(
            draw, now_ms, tenant=tenant if draw.random() < 0.7 else None,
            event_id=f"e{send.number}-{index}" if draw.random() < 0.15 else None,
        )
        for index in range(draw.choice((1, 1, 2, 3, 5)))
    ]  # fmt: skip
    if draw.random() < 0.1:
        found.append(events.bad_event(draw, now_ms))
    return traffic.envelopes(traffic.producers[send.by % 3], found, now_ms)


def _burst(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    """Requests of one key that no gate held back: the key comes into debt."""
    tenant = draw.choice(TENANTS[:2] + TENANTS[4:6])
    key, found = tenant.keys[0], []
    for _ in range(draw.randrange(2, 7)):
        event = events.some_event(draw, now_ms, tenant=tenant, lag_ms=0)
        event.api_key_id, event.status = key, 200
        event.operation, event.model, event.charges = "search.knn", None, None
        event.quantities = {"requests": draw.randrange(4, 14)}
        found.append(event)
    return traffic.envelopes(traffic.producers[send.by % 3], found, now_ms)


def _json(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    return [_foreign(traffic, send, draw, now_ms, events.as_json)]


def _cloud_event(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    return [_foreign(traffic, send, draw, now_ms, events.as_cloud_event)]


def _foreign(
    traffic: Traffic, send: Send, draw: random.Random, now_ms: int, write: Callable[[WireEvent], bytes]
) -> Outgoing:
    event = events.some_event(draw, now_ms, event_id=f"f{send.number}" if draw.random() < 0.8 else f"c{send.by}")
    account = event.account_id or event.org_id
    partition = traffic.home(account) if draw.random() < 0.6 else draw.randrange(traffic.partitions)
    return traffic.usage(partition, write(event), account)


def _repeat(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    """Something that was sent before: the same record, or its named events in another record, or with other content."""
    if not traffic.sent:
        return []
    before = draw.choice(traffic.sent[-30:] if draw.random() < 0.7 else traffic.sent)
    value = before.value or b""
    if value[:2] == b"\x97\x01" and draw.random() < 0.3:
        try:
            named = [event for event in DECODE_ENVELOPE(value).events if event.id is not None]
        except ValueError:
            named = []
        if named:
            if draw.random() < 0.2:
                named[0].status = 418
            return traffic.envelopes(traffic.producers[send.by % 3], named, now_ms)
    return [before]


def _storage(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    return traffic.envelopes(traffic.producers[send.by % 3], [events.some_sample(draw, now_ms)], now_ms)


def _stray(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    """An envelope in whatever partition, with events of several accounts, some without the account that pays."""
    found = [
        events.some_event(draw, now_ms, event_id=f"s{send.number}-{index}" if draw.random() < 0.3 else None)
        for index in range(draw.randrange(1, 4))
    ]
    if draw.random() < 0.3:
        found[0].account_id = None
    partition = draw.randrange(traffic.partitions)
    return [traffic.usage(partition, traffic.producers[send.by % 3].seal(partition, found, now_ms))]


def _poison(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    partition = draw.randrange(traffic.partitions)
    if draw.random() < 0.6:
        return [traffic.usage(partition, events.poison_record(draw, now_ms))]
    found = [events.bad_event(draw, now_ms) for _ in range(draw.randrange(1, 3))]
    return [traffic.usage(partition, traffic.producers[send.by % 3].seal(partition, found, now_ms))]


def _edge(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    """Events on both sides of a month's end."""
    found = []
    for _ in range(draw.randrange(1, 4)):
        event = events.some_event(draw, events.edge_ms(draw, now_ms), lag_ms=0)
        event.status = 200
        found.append(event)
    return traffic.envelopes(traffic.producers[send.by % 3], found, now_ms)


def _gauge(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    """What a node serves of an account's organizations. A node dies by saying no more, or as another process."""
    node = send.by % 3
    if draw.random() < 0.15:
        traffic.boots[node] += 1
    account = draw.choice(("org_ash", "org_elm"))
    found = [
        WireInFlight(one.organization_id, draw.choice((0, 1, 2, 4, 60)), _subjects(draw))
        for one in TENANTS
        if one.account_id == account
    ]
    ttl_ms = draw.choice((300, 2_000, 60_000))
    process = f"node{node}", f"boot{traffic.boots[node]}"
    value = ENCODE(WireGauge(GAUGE_VERSION, *process, send.number, ttl_ms, account, found))
    return [traffic.usage(traffic.home(account), value, account)]


def _subjects(draw: random.Random) -> list[tuple[str, str, int]]:
    return [("cluster.execute", f"s{draw.randrange(3)}", draw.choice((1, 2)))] if draw.random() < 0.4 else []


def _restart(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    """A producer starts anew: with another name (a fork), a higher epoch, or a gap where envelopes were lost."""
    place = send.by % 3
    match draw.randrange(3):
        case 0:
            traffic.producers[place] = Producer(f"sdk{place}-{send.number}")
        case 1:
            traffic.producers[place].epoch += 1
            traffic.producers[place].sequences.clear()
        case _:
            found = [events.some_event(draw, now_ms, lag_ms=0)]
            home = traffic.home(found[0].account_id or found[0].org_id)
            return [traffic.usage(home, traffic.producers[place].seal(home, found, now_ms, skip=draw.randrange(1, 4)))]
    return []


def _twins(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    """The first record of two partitions, about one organization that both know."""
    found = []
    for tenant in TWICE:
        event = events.some_event(draw, now_ms, tenant=tenant, lag_ms=0)
        event.api_key_id, event.operation, event.status = tenant.keys[0], "search.web", 200
        event.quantities = event.model = event.charges = None
        home = traffic.home(tenant.account_id)
        found.append(traffic.usage(home, traffic.producers[0].seal(home, [event], now_ms)))
    return found


def _account_record(traffic: Traffic, account: str, value: bytes, partition: int | None = None) -> Outgoing:
    home = traffic.home(account) if partition is None else partition
    return Outgoing(ACCOUNTS.name, home, account.encode(), value)


def _plan_change(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    """An operator's change of an organization; of two operators at the same moment; or of one who read it long ago."""
    tenant, word = draw.choice(TENANTS), f"change-{send.number}"
    if tenant.account_id != tenant.organization_id and draw.random() < 0.7:
        value = tenants.put_organization(tenant, word, now_ms, pool=draw.choice(tenants.POOLS))
    else:
        value = tenants.put_organization(tenant, word, now_ms, draw.choice(TIERS))
    made = [value]
    if (puts := traffic.puts.get(tenant.organization_id)) and draw.random() < 0.7:
        base = puts[-1] if draw.random() < 0.6 else draw.randrange(puts[-1] + 1)
        made = [json.dumps(json.loads(value) | {"based_on": base}).encode()]
        if draw.random() < 0.5:
            made.append(tenants.put_organization(tenant, f"{word}-other", now_ms, draw.choice(TIERS), based_on=base))
    return [_account_record(traffic, tenant.account_id, value) for value in made]


def _command(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    tenant, word = draw.choice(TENANTS), f"command-{send.number}"
    names = tenant.account_id, tenant.organization_id
    match draw.randrange(7):
        case 0 if traffic.commands:
            return [draw.choice(traffic.commands)]
        case 1:
            value = tenants.command("key.revoke", word, now_ms, *names, api_key_id=draw.choice(tenant.keys))
        case 2:
            value = tenants.put_key(tenant, f"key_late_{send.number}", word, now_ms)
            late = events.some_event(draw, now_ms, tenant=tenant, lag_ms=0)
            late.api_key_id = f"key_late_{send.number}"
            made = [_account_record(traffic, tenant.account_id, value)]
            made += traffic.envelopes(traffic.producers[send.by % 3], [late], now_ms)
            return made if draw.random() < 0.5 else made[::-1]
        case 3:
            value = tenants.command("key.destroy", word, now_ms, *names)
        case 4:
            value = tenants.put_organization(tenant, f"put-{names[0]}-{names[1]}", now_ms, "team")
        case 5:
            value = b'{"kind": "organization.put"'
        case _:
            value = tenants.put_organization(tenant, word, now_ms)
            return [_account_record(traffic, names[0], value, draw.randrange(traffic.partitions))]
    return [_account_record(traffic, tenant.account_id, value)]


def _order(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    account, value = orders.some_order(draw, f"order-{send.number}", now_ms, traffic.given)
    return [_account_record(traffic, account, value)]


def _catalogue(traffic: Traffic, send: Send, draw: random.Random, now_ms: int) -> list[Outgoing]:
    traffic.catalogue_version += 1
    in_ms = 6 * MINUTE_MS + draw.choice((0, MINUTE_MS, 15 * MINUTE_MS, 100 * MINUTE_MS)) + draw.randrange(5_000)
    key, value = tenants.catalogue_record(traffic.catalogue_version, now_ms + in_ms)
    return [Outgoing(CATALOG.name, 0, key, value)]


KINDS: Final[dict[str, Callable[[Traffic, Send, random.Random, int], list[Outgoing]]]] = {
    "envelope": _envelope,
    "burst": _burst,
    "json": _json,
    "cloud event": _cloud_event,
    "repeat": _repeat,
    "storage": _storage,
    "stray": _stray,
    "poison": _poison,
    "edge": _edge,
    "restart": _restart,
    "gauge": _gauge,
    "twins": _twins,
    "plan change": _plan_change,
    "command": _command,
    "order": _order,
    "catalogue": _catalogue,
}
"""What each kind of send puts on the wire; "requests" are the gateways'."""
