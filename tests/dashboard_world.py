"""What the API of the dashboard's tests tells: a made-up organization's figures, in the routes' own forms."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.dashboard_operator import Json, iso

STEPS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


def scope(kind: str, identifier: str, *, operation: str | None = None, label: str | None = None) -> Json:
    about = {"operation": operation, "subject": None, "label": label, "category": None}
    return {"kind": kind, "id": identifier, **about}


class World:
    """What the API would tell. ``tell`` sends an event to all who follow; ``cut`` ends their streams."""

    def __init__(self, organization: str = "org_heron", seed: int = 7) -> None:
        self.chance = random.Random(seed)
        self.organization = organization
        self.used = 61_842.3
        self.total: float | None = 100_000
        self.blocks: dict[str, Json] = {}
        self.alerts: list[Json] = []
        self.refused = False
        self.broken = False
        self.history_is_away = False
        self.latency_s = 0.0
        self.at_once = 0
        self.at_once_most = 0
        self.groups: tuple[tuple[str, float], ...] | None = None
        self._followers: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[str | None]]] = []

    # customer's answers

    def usage(self) -> Json:
        month = datetime.now(UTC)
        reset = datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)
        total, used = self.total, round(self.used, 6)
        parts = {"inference": 0.68, "search": 0.17, "documents": 0.09, "storage": 0.04, "upload": 0.02}
        return {
            "credits": {
                "total": total,
                "used": used,
                "remaining": None if total is None else round(max(0, total - used), 6),
                "reset_date": iso(reset),
                "granted": 0,
                "overage": 0,
                "lent": 0,
            },
            "breakdown": {name: round(share * used, 1) for name, share in parts.items()},
            "requests": 1_204_331,
            "corrections": {},
            "month": f"{month:%Y-%m}",
            "as_of": iso(month),
            "lag_ms": 41,
            "final": False,
        }

    def about(self) -> Json:
        names = (
            "namespaces",
            "collections",
            "buckets",
            "documents",
            "retrievers",
            "taxonomies",
            "clusters",
            "api_keys",
        )
        limits = (10, 50, 50, 1_000_000, 50, 20, 10, 10)
        used = (4, 44, 12, 612_340, 9, 2, 10, 3)
        return {
            "id": self.organization,
            "tier": "pro",
            "account_id": self.organization,
            "credits_per_month": 100_000,
            "limits": {
                "per_second": 100,
                "burst": 200,
                "per_minute": 600,
                "by_category": {"metadata": 600, "data": 480, "search": 300, "upload": 150, "compute": 60},
            },
            "concurrency": 50,
            "objects_per_batch": 10_000,
            "quotas": {name: {"used": u, "limit": m} for name, u, m in zip(names, used, limits, strict=True)},
            "features": {},
            "plan_version": 3,
            "as_of": iso(datetime.now(UTC)),
            "lag_ms": 41,
            "final": False,
        }

    def limits(self) -> Json:
        now = iso(datetime.now(UTC))
        rows = [
            ("search_per_minute", scope("key", "key_heron_1"), 300, 252),
            ("compute_per_minute", scope("key", "key_heron_1"), 60, 58),
            ("concurrency", scope("organization", self.organization), 50, 27),
            ("operation_quantity", scope("operation", self.organization, operation="search.web"), 10, 8),
            ("budget_day", scope("label", self.organization, label="pipeline=nightly"), 2_500, 2_302.5),
        ]
        limits = [
            {
                "limit_name": name,
                "scope": about,
                "limit": limit,
                "used": used,
                "utilization": round(used / limit, 4),
                "told_at": now,
            }
            for name, about, limit, used in rows
        ]
        return {"as_of": now, "lag_ms": 41, "final": False, "limits": limits, "decisions": list(self.blocks.values())}

    def projection(self) -> Json:
        now = iso(datetime.now(UTC))
        return {
            "as_of": now,
            "lag_ms": 900,
            "final": False,
            "made_at": now,
            "used": self.used,
            "projected": 83_900.25,
            "low": 77_250,
            "high": 92_400,
            "exhausted_at": None,
            "exhausted_early": None,
            "exhausted_late": None,
            "last_hour": 131.4,
            "last_day": 2_911.8,
            "history_hours": 1_344,
            "level": "hour_of_week",
            "interval_is_learnt": True,
        }

    def plan_fit(self) -> Json:
        now, used = datetime.now(UTC), round(self.used, 6)
        ran_out_at = iso(now.replace(day=1, hour=14, minute=0, second=0, microsecond=0))
        totals = (("free", 1_000, 4_120), ("pro", 100_000, 37), ("team", 1_000_000, 0), ("enterprise", None, None))
        plans = [
            {
                "tier": tier,
                "total": total,
                "paid": used if total is None else min(used, total),
                "beyond": 0 if total is None else round(max(0, used - total), 6),
                "ran_out_at": ran_out_at if total is not None and used > total else None,
                "requests": 1_204_331,
                "throttled": throttled,
            }
            for tier, total, throttled in totals
        ]
        fresh = {"as_of": iso(now), "lag_ms": 900, "final": False}
        return {**fresh, "month": f"{now:%Y-%m}", "tier": "pro", "plan_version": 3, "plans": plans}

    def series(self, start: datetime, end: datetime, interval: str, group_by: str | None) -> Json:
        step = STEPS[interval]
        groups = self.groups or {
            "category": (("compute", 0.62), ("search", 0.2), ("data", 0.11), ("upload", 0.05), ("metadata", 0.0)),
            "operation": (
                ("inference.llm", 0.48), ("search.hybrid", 0.15), ("inference.embedding", 0.14),
                ("documents.create", 0.11), ("search.web", 0.06), ("upload.file", 0.05), ("documents.list", 0.0),
            ),
            "api_key": (("key_heron_1", 0.71), ("key_heron_2", 0.27), ("key_heron_test", 0.0)),
            None: (("", 1.0),),
        }[group_by]  # fmt: skip
        points = []
        at = start
        while at < min(end, datetime.now(UTC)):
            hour = at.hour if interval != "day" else 12
            wave = 1 + 0.6 * math.sin((hour - 8) / 24 * 2 * math.pi) if interval != "day" else 1.0
            if at.weekday() >= 5:
                wave *= 0.55
            for name, share in groups:
                spent = share * wave * step.total_seconds() / 86_400 * 3_300 * self.chance.uniform(0.8, 1.2)
                requests = int((share + 0.03) * wave * step.total_seconds() * 0.9 * self.chance.uniform(0.9, 1.1))
                points.append(
                    {
                        "at": iso(at),
                        "group": name,
                        "requests": requests,
                        "errors": requests // 90,
                        "throttled": requests // 400,
                        "units": requests,
                        "credits": round(spent, 3),
                    }
                )
            at += step
        return {
            "as_of": iso(datetime.now(UTC)),
            "lag_ms": 700,
            "final": False,
            "start": iso(start),
            "end": iso(end),
            "interval": interval,
            "group_by": group_by,
            "points": points,
            "next_cursor": None,
        }

    def alert_page(self) -> Json:
        return {
            "as_of": iso(datetime.now(UTC)),
            "lag_ms": 3,
            "final": False,
            "alerts": self.alerts,
            "next_cursor": None,
        }

    # what happens

    def spend(self, amount: float) -> None:
        self.used += amount
        self.tell("balance", self.usage())

    def block(self, limit_name: str, about: Json, *, limit: float, observed: float, reason: str, **more: Any) -> Json:
        now = iso(datetime.now(UTC))
        number = len(self.blocks) + 1
        found: Json = {
            "decision_id": f"block/{limit_name}/{about['id']}/u1-{number}",
            "scope": about,
            "verdict": "block",
            "limit_name": limit_name,
            "limit": limit,
            "observed": observed,
            "reason": reason,
            "until": None,
            "tier": "pro",
            "plan_version": 3,
            "cause": {
                "event_id": f"evt_01JD9QX2M7F{number}",
                "ts": now,
                "logged_at": now,
                "position": {"topic": "sluicegate.usage", "partition": 7, "offset": 48_211_902, "index": 14},
            },
            "decided_at": now,
            **more,
        }
        self.blocks[found["decision_id"]] = found
        self.tell("decision", found)
        return found

    def allow(self, blocked: Json) -> None:
        del self.blocks[blocked["decision_id"]]
        self.tell(
            "decision", {**blocked, "decision_id": "dec_allow", "verdict": "allow", "reason": None, "cause": None}
        )

    def why(self, blocked: Json) -> Json:
        end = datetime.fromisoformat(blocked["cause"]["ts"])

        def seen(number: int) -> Json:
            return {
                "id": f"evt_before_{number}" if number else blocked["cause"]["event_id"],
                "ts": iso(end - timedelta(seconds=3 * number)),
                "operation": "search.web",
                "status": 200,
                "api_key_id": "key_heron_1",
                "cached": False,
                "quantities": {"requests": 1},
            }

        return {
            "as_of": iso(end),
            "lag_ms": 12,
            "final": False,
            "decision": blocked,
            "stands": True,
            "event": seen(0),
            "events": [seen(number) for number in range(5, 0, -1)],
            "notes": [],
        }

    def alert(
        self, rule: str, severity: str, sentence: str, advice: str, *, ago: timedelta, cleared: timedelta | None = None
    ) -> Json:
        now = datetime.now(UTC)
        made: Json = {
            "alert_id": f"alert_{len(self.alerts) + 1}",
            "state": "fired" if cleared is None else "cleared",
            "rule": rule,
            "severity": severity,
            "sentence": sentence,
            "advice": advice,
            "scope": scope("organization", self.organization),
            "threshold": 80,
            "observed": 80_000,
            "limit": 100_000,
            "unit": "credits",
            "fired_at": iso(now - ago),
            "at": iso(now - (ago if cleared is None else cleared)),
            "cleared_at": None if cleared is None else iso(now - cleared),
            "reset_at": None,
            "costliest": ["inference.llm"],
        }
        self.alerts.append(made)
        self.tell("alert", made)
        return made

    def tell(self, event: str, data: Json) -> None:
        text = f"event: {event}\nid: {time.time_ns()}\ndata: {json.dumps(data)}\n\n"
        self._send(text)

    async def answer_slowly(self) -> None:
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        await asyncio.sleep(self.latency_s)
        self.at_once -= 1

    def cut(self) -> None:
        self._send(None)

    @property
    def followers(self) -> int:
        return len(self._followers)

    def _send(self, text: str | None) -> None:
        for loop, queue in list(self._followers):
            loop.call_soon_threadsafe(queue.put_nowait, text)

    async def follow(self) -> AsyncIterator[str]:
        mine = (asyncio.get_running_loop(), asyncio.Queue[str | None]())
        self._followers.append(mine)
        try:
            yield ": hello\n\n"
            while (text := await mine[1].get()) is not None:
                yield text
        finally:
            self._followers.remove(mine)
