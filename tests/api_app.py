"""The API in process with two tenants, a revoked key and operators: where hostile tests begin."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from api.operators import Operator, OperatorScope
from clickhouse.projection import Projection
from clickhouse.queries import Consumer, Freshness, Usage, UsageOf, UsagePoint
from sluicegate.operator.doctor.history import SCHEMA_VERSION
from sluicegate_schemas.catalogue import Tier
from sluicegate_schemas.plan_fit import PlanFit, PlanFits
from tests.api_world import OTHER_SECRET, World
from tests.gating import NOW, NOW_MS, SECRET, decision_record, key_record

HERON, FINCH = SECRET, OTHER_SECRET
REVOKED = "sk_live_demo_key_heron_2"
READER, WRITER = "operator-reads", "operator-writes"
USED = {"heron": 3_535_350, "finch": 4_242_420}
MARKS = {"heron": (b"heron", b"353535", b"3.53535"), "finch": (b"finch", b"424242", b"4.24242")}
"""Bytes that only this organization's own data has."""


class ApiApp(World):
    """``client`` asks; ``desk`` is the operators' Kafka, ``history`` ClickHouse."""

    def __init__(self, *, operators: bool = True) -> None:
        known = (_operator("rea", READER, "read"), _operator("wim", WRITER, "write"))
        super().__init__(
            key_record(REVOKED, name="key_heron_2", revoked=True),
            decision_record(
                kind="category",
                name="org_heron",
                category="search",
                limit_name="search_per_minute",
                limit=353_535,
                decision_id="d-heron",
            ),
            decision_record(
                kind="organization", name="org_finch", limit_name="credits", decision_id="d-finch", limit=424_242
            ),
            operators=known if operators else (),
        )
        for name, micro in USED.items():
            for kind, about in (("organization", f"org_{name}"), ("account", f"org_{name}"), ("key", f"key_{name}_1")):
                self.balance(kind, about, used_micro=micro, breakdown_micro={"search": micro})
            self.balance("label", f"org_{name}", label=f"of={name}", organization_id=f"org_{name}", used_micro=micro)
        finch, heron = Usage(5, 0, 0, 5, USED["finch"], 5), Usage(3, 0, 0, 3, USED["heron"], 3)
        each = {"org_finch": finch, "org_heron": heron}
        self.history.says |= {
            "freshness": lambda since: Freshness(3, 40, 90, 120),
            "top_consumers": lambda start, end, limit: [Consumer(*one) for one in each.items()][:limit],
            "decision_row": lambda *_: None,
            "selected": lambda statement: [{"version": "26.9", "number": SCHEMA_VERSION}],
            "reached": lambda *_: (NOW_MS - 900, NOW_MS),
            "month_fits": lambda name, card, month: PlanFits(
                organization_id=name,
                month=month,
                plan_version=card.version,
                fits=(_fit("pro", each[name].credits_micro), _fit("enterprise", each[name].credits_micro)),
            ),
            "project": lambda now, left: [_projected(name, one.credits_micro) for name, one in each.items()],
            "final_balance": lambda *_: None,
            "usage_by": lambda name, *_, **__: [UsageOf(f"{name[4:]}.knn", each[name])],
            "usage_series": lambda name, *_, **__: [UsagePoint(NOW, f"{name[4:]}.knn", each[name])],
            "label_series": lambda name, *_, **__: [
                UsagePoint(NOW, label, each[name]) for label in (f"pipeline={name[4:]}", "…")
            ],
        }

    def client(self, secret: str | None = None, **headers: Any) -> httpx.AsyncClient:
        """Asks with this credential."""
        own = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://api", headers=own | headers)


def _projected(organization_id: str, micro: int) -> Projection:
    return Projection(organization_id, micro, micro, micro, micro, NOW, NOW, None, micro, micro, 48)


def _fit(tier: Tier, micro: int) -> PlanFit:
    return PlanFit(
        tier=tier, used_micro=micro, total_micro=None, beyond_micro=0, ran_out_at=None, requests=3, throttled=0
    )


def _operator(name: str, secret: str, scope: OperatorScope) -> Operator:
    return Operator(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest(), scopes=(scope,))
