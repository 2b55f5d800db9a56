"""The usage API in process, with its tables filled by hand: where tests of routes begin."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
from fastapi import FastAPI

from api.alerts import AlertTable
from api.app import create_app
from api.balances import BalanceTable
from api.directory import Directory
from api.operators import Operator
from api.parts import Parts
from api.problems import away
from api.roster import Roster
from sluicegate import Brokers, Gate
from sluicegate.operator.system import System
from sluicegate_schemas.alerts import UsageAlert
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import Scope
from tests.gating import NOW, NOW_MS, SECRET, Known, TopicRecord, catalogue_record, key_record, organization_record
from tests.operator_desk import FakeDesk

OTHER_SECRET = "sk_live_demo_key_finch_1"
MONTH = f"{from_epoch_ms(NOW_MS):%Y-%m}"


class Fresh:
    """Somebody who follows, and has heard everything a moment ago."""

    def __init__(self) -> None:
        self.ready = True
        self.staleness_ms: int | None = 3


class Answers:
    """ClickHouse's place: what is said to each question, by the function's name; else it is away."""

    def __init__(self) -> None:
        self.says: dict[str, Callable[..., Any]] = {}
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    async def ask(self, question: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.asked.append((question.__name__, arguments, options))
        if question.__name__ not in self.says:
            raise away("The past cannot be asked")
        return self.says[question.__name__](*arguments, **options)


class Metered:
    """Takes usage events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def publish(self, **fields: Any) -> bool:
        self.events.append(fields)
        return True


def balance_record(kind: str = "organization", name: str = "org_heron", **fields: Any) -> tuple[bytes, bytes]:
    """A balance of this month as a worker publishes it."""
    month = fields.get("month", MONTH)
    organization = None if kind == "account" else "org_" + name.split("_")[1]
    balance = {
        "schema_version": 1,
        "kind": kind,
        "id": name,
        "account_id": organization or name,
        "organization_id": organization,
        "month": month,
        "total_micro": None if kind == "key" else 100_000_000_000,
        "used_micro": 0,
        "breakdown_micro": {},
        "requests": 0,
        "as_of": datetime.fromtimestamp(NOW_MS / 1000 - 0.04, UTC).isoformat().replace("+00:00", "Z"),
        "source": {"topic": "usage", "partition": 0, "offset": 1, "index": 0},
        "sequence": {"epoch": 1, "counter": 1},
    } | fields
    about = f"{name}:{fields['label']}" if "label" in fields else name
    return f"{kind}:{about}:{month}".encode(), json.dumps(balance).encode()


def alert_record(
    alert_id: str,
    *,
    organization: str = "org_heron",
    state: Literal["fired", "cleared"] = "fired",
    fired_at: datetime = NOW,
    at: datetime | None = None,
) -> bytes:
    """An alert as a worker publishes it."""
    alert = UsageAlert(
        alert_id=alert_id,
        state=state,
        sentence="80 % of the month's credits are used.",
        advice="Cache or batch what can be.",
        fired_at=fired_at,
        at=at or fired_at,
        rule="credits_80",
        severity="warning",
        account_id=organization,
        organization_id=None,
        scope=Scope(kind="account", id=organization),
        threshold=80,
        observed=80_000_000,
        limit=100_000_000,
        unit="credits_micro",
        plan_version=1,
        cause=None,
    )
    return alert.model_dump_json().encode()


class World:
    """An application that knows org_heron (pro) and org_finch (free), and time stands still."""

    def __init__(self, *records: TopicRecord, operators: tuple[Operator, ...] = (), gated: bool = True) -> None:
        self.now_ms = NOW_MS
        self.known = Known()
        self.directory = Directory(self.known.view)
        self.roster = Roster()
        self.desk = FakeDesk(self.learn)
        self.meter = Metered()
        self.history = Answers()
        self.balances, self.alerts = BalanceTable(), AlertTable()
        self.balances_from, self.alerts_from = Fresh(), Fresh()
        self.parts = Parts(
            knowledge=self.known,
            knowledge_from=Fresh(),
            directory=self.directory,
            balances=self.balances,
            balances_from=self.balances_from,
            alerts=self.alerts,
            alerts_from=self.alerts_from,
            history=self.history,
            system=System(Brokers("127.0.0.1:1"), "sluicegate."),
            partitions=8,
            desk=self.desk,
            roster=self.roster,
            gate=Gate(self.known, clock=lambda: self.now_ms) if gated else None,
            meter=self.meter if gated else None,
            operators=operators,
            clock=lambda: self.now_ms,
        )
        self.app: FastAPI = create_app(self.parts)
        self.learn(
            catalogue_record(),
            organization_record(),
            key_record(),
            organization_record("org_finch", tier="free"),
            key_record(OTHER_SECRET, name="key_finch_1", organization="org_finch"),
            *records,
        )

    def learn(self, *records: TopicRecord) -> None:
        """What the workers published."""
        for record in records:
            change = self.known.view.apply(*record)
            self.directory.on_change(change)
            self.roster.take(change)
            self.app.state.news.on_change(change)

    def balance(self, kind: str = "organization", name: str = "org_heron", **fields: Any) -> None:
        """A balance came."""
        key, value = balance_record(kind, name, **fields)
        self.balances.apply(key, value, self.now_ms)

    def get(self, path: str, secret: str | None = SECRET, **options: Any) -> httpx.Response:
        """One request."""
        return self.request("GET", path, secret, **options)

    def request(self, method: str, path: str, secret: str | None = SECRET, **options: Any) -> httpx.Response:
        """One request."""
        headers = dict(options.pop("headers", {}))
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}".encode("latin-1")

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(ask())
