"""A service whose gate borrows, in front of an application that spends; the worker is the test."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx

from sluicegate.gate import Gate
from sluicegate.gate.escrow import EscrowSettings
from sluicegate.lending import Lending
from sluicegate.metering import current
from sluicegate.middleware import Middleware
from sluicegate.operations import Operation
from sluicegate.publisher import Control
from sluicegate_schemas.envelope import DECODE_LEASE_REQUEST, WireLeaseRequest
from sluicegate_schemas.outputs import Lease, OrganizationEntitlement, Scope, Sequence
from tests.gating import (
    NOW,
    NOW_MS,
    SECRET,
    Known,
    TopicRecord,
    heron,
)
from tests.metering import Recorder

CREDIT = 1_000_000
SETTINGS = EscrowSettings(wait_ms=200, refused_ms=10_000)


def hard(**fields: object) -> TopicRecord:
    """The organization, whose credits are held hard."""
    record = OrganizationEntitlement.model_validate(
        {
            "organization_id": "org_heron",
            "account_id": "org_heron",
            "tier": "pro",
            "credits_micro_per_month": None,
            "rates": None,
            "credits_mode": "hard",
            "sequence": Sequence(epoch=1, counter=2),
            **fields,
        }
    )
    return "entitlements", b"organization:org_heron", record.model_dump_json().encode()


class Service:
    """A gate that borrows, in front of an application that uses ``tokens``; the worker is the test."""

    def __init__(self, known: Known | None = None, *, tokens: int = 1_000, hangs_s: float = 0.0) -> None:
        self.known = known or heron(hard())
        self.sent: list[WireLeaseRequest] = []
        self.meter = Recorder()
        self.lending = Lending(self.known.view, self._send, "node-1", "boot", SETTINGS)
        self.gate = Gate(self.known, clock=lambda: NOW_MS)
        self.gate.borrow(self.lending.reserve)
        self.tokens, self.hangs_s = tokens, hangs_s
        self.app = Middleware(
            self._application,  # type: ignore[arg-type]  # ASGI
            gate=self.gate,
            meter=self.meter,
            find_operation=lambda scope: Operation(scope["path"].strip("/")),
            clock=lambda: NOW_MS,
        )

    def _send(self, account_id: str, value: bytes) -> Control:
        self.sent.append(DECODE_LEASE_REQUEST(value))
        return Control(account_id.encode(), value, 0)

    async def _application(self, scope: object, receive: object, send: object) -> None:
        current().quantities["tokens"] = self.tokens
        await asyncio.sleep(self.hangs_s)
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"{}"})  # type: ignore[operator]

    async def call(self, operation: str = "inference.llm", *, secret: str = SECRET) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type]  # ASGI
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.post(f"/{operation}", headers={"Authorization": f"Bearer {secret}"})

    async def asked(self, number: int = 0) -> WireLeaseRequest:
        async with asyncio.timeout(5):
            while len(self.sent) <= number:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.001)
        return self.sent[number]

    def answer(self, request: WireLeaseRequest, credits_micro: int, *, request_ms_max: int = 300_000) -> None:
        """The worker lends, of 1,000 credits of which 900 are used."""
        kind, name, *label = request.scope.split(":", 2)
        self.lending.reserve.learn(
            Lease(
                lease_id=f"0-{request.request_id}",
                scope=Scope.model_validate({"kind": kind, "id": name, "label": label[0] if label else None}),
                limit_name=request.limit_name,  # type: ignore[arg-type]  # one of those that can be lent
                node="node-1",
                request_id=request.request_id,
                credits_micro=credits_micro,
                month="2026-03",
                lent_at=NOW,
                ttl_ms=30_000,
                request_ms_max=request_ms_max,
                limit=1_000 * CREDIT,
                used=900 * CREDIT,
                lent_micro=credits_micro,
                until=NOW + timedelta(days=1),
                plan_version=1,
                sequence=Sequence(epoch=1, counter=1),
            )
        )
