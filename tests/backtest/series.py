"""Seasonal usage, made up: what organizations of many habits burn by the hour. The same seed gives the same series."""

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

MICRO: Final = 1_000_000


class Series(NamedTuple):
    """An organization's micro-credits of each hour from the set's first one on."""

    org_id: str
    hours: list[int]


def seasonal(seed: int, organizations: int, start: datetime, hours: int) -> Iterator[Series]:
    """Each has its own hour of the day, weekend, trend by the week, luck that lasts for days, and bursts: one day in
    fifty that is several times as busy. One in eight began late."""
    draw = random.Random(seed)
    for number in range(organizations):
        level = draw.lognormvariate(3.0, 1.2)
        peak, spread = draw.uniform(8, 20), draw.uniform(0.2, 1.6)
        weekend = draw.choice([0.15, 0.3, 0.6, 1.0])
        trend_a_week = draw.gauss(0.01, 0.02)
        begins = draw.randrange(hours // 2) if draw.random() < 1 / 8 else 0
        luck, burst = 0.0, 1.0
        found = []
        for hour in range(hours):
            at = start + timedelta(hours=hour)
            if at.hour == 0:
                luck = 0.7 * luck + draw.gauss(0, 0.15)
                burst = draw.uniform(2, 5) if draw.random() < 0.02 else 1.0
            if hour < begins:
                found.append(0)
                continue
            day = math.exp(spread * math.cos((at.hour - peak) / 24 * 2 * math.pi))
            week = weekend if at.weekday() >= 5 else 1.0
            noise = draw.lognormvariate(0, 0.3)
            grown = math.exp(trend_a_week * hour / 168)
            found.append(int(level * day * week * grown * math.exp(luck) * burst * noise * MICRO))
        yield Series(f"org_{number}", found)
