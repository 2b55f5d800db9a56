"""What alerts a history must give: the contract's sentences in plain fractions, sharing no code with the machine."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil

from sluicegate_schemas.alert_rules import AlertRule

DAY_MS = 86_400_000
SLOTS = 60
CONCURRENCY = 50

Told = tuple[str, str, str, int, int]
"""(rule, scope, state, at, observed)"""


def month_of(ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).strftime("%Y-%m")


def month_start(month: str) -> int:
    return int(datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).timestamp()) * 1000


def month_after(month: str) -> str:
    return month_of(month_start(month) + 32 * DAY_MS)


class Reference:
    """Takes the log in order; ``told`` is what has to be told by now."""

    def __init__(self, rules: tuple[AlertRule, ...], requests_per_minute: dict[str, int]) -> None:
        self.rules = rules
        self.requests_per_minute = requests_per_minute
        """By key."""
        self.now = 0
        self.looked = -1
        self.plan: dict[str, int] = {}
        self.plan_total: dict[str, int] = {}
        """What the plan gives the current month: the most of all values in it."""
        self.granted: dict[str, int] = {}
        """What grants without an end hold at the month's begin, or were given in it; they burn behind the plan."""
        self.in_flight: dict[str, tuple[int, int]] = {}
        self.month = ""
        self.used: Counter[tuple[str, str]] = Counter()
        self.arrival: dict[str, Fraction] = {}
        """When the minute bucket of a key is empty of requests."""
        self.happened: defaultdict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
        """By measure and scope: (when it was told, when it was, how often)."""
        self.unrated: Counter[str] = Counter()
        self.standing: dict[tuple[str, str], str] = {}
        """The period in which a rule fired, by rule and scope."""
        self.told: list[Told] = []

    def reach(self, now: int) -> None:
        self.now = max(self.now, now)
        if month_of(self.now) != self.month:
            for org, granted in self.granted.items():
                beyond = max(0, self.used[org, self.month] - self.plan_total[org])
                self.granted[org] = max(0, granted - beyond)
            self.month = month_of(self.now)
            self.plan_total = dict(self.plan)

    def put(self, org: str, credits_micro: int) -> None:
        self.plan[org] = credits_micro
        self.plan_total[org] = max(self.plan_total.get(org, 0), credits_micro)

    def grant(self, org: str, credits_micro: int) -> None:
        self.granted[org] = self.granted.get(org, 0) + credits_micro

    @property
    def total(self) -> dict[str, int]:
        return {org: plan + self.granted.get(org, 0) for org, plan in self.plan_total.items()}

    def serve(self, org: str, in_flight: int, ttl_ms: int) -> None:
        self.in_flight[org] = in_flight, self.now + ttl_ms

    def spend(self, org: str, micro: int, ts: int) -> None:
        month = month_of(ts)
        if month < self.month and self.now >= month_start(month_after(month)) + DAY_MS:
            month = self.month
        self.used[org, month] += micro

    def request(self, key: str, started: int) -> None:
        started = max(started, self.now - 59_999)
        self.arrival[key] = max(self.arrival.get(key, Fraction(0)), Fraction(started)) + self.each(key)

    def each(self, key: str) -> Fraction:
        return Fraction(60_000, self.requests_per_minute[key])

    def level(self, key: str) -> int:
        return ceil(max(Fraction(0), self.arrival[key] - self.now) / self.each(key))

    def happens(self, measure: str, scope: str, ts: int) -> None:
        self.happened[measure, scope].append((self.now, ts, 1))

    def is_blocked(self, org: str) -> bool:
        return self.used[org, self.month] >= self.total[org]

    def look(self) -> None:
        """After each record: once in each second of the log."""
        if self.now // 1000 <= self.looked:
            return
        self.looked = self.now // 1000
        for rule in self.rules:
            for scope, observed, limit in self.readings(rule):
                self.judge(rule, scope, observed, limit)

    def readings(self, rule: AlertRule) -> list[tuple[str, int, int | None]]:
        match rule.measure:
            case "credits_used_percent":
                return [(f"account:{org}", self.used[org, self.month], total) for org, total in self.total.items()]
            case "credits_left_percent":
                return [
                    (f"account:{org}", max(0, total - self.used[org, self.month]), total)
                    for org, total in self.total.items()
                ]
            case "minute_utilization_percent":
                limits = self.requests_per_minute
                return [(f"key:{key}", self.level(key), limits[key]) for key in self.arrival]
            case "concurrency_percent":
                return [
                    (f"organization:{org}", count if self.now < until else 0, CONCURRENCY)
                    for org, (count, until) in self.in_flight.items()
                ]
            case "unrated":
                return [(scope, times, None) for scope, times in self.unrated.items()]
        assert rule.window_s is not None
        return [
            (scope, self.in_window(rule.window_s, times), None)
            for (measure, scope), times in self.happened.items()
            if measure == rule.measure
        ]

    def in_window(self, window_s: int, times: list[tuple[int, int, int]]) -> int:
        def slot(ms: int) -> int:
            return ms // 1000 * SLOTS // window_s

        return sum(
            count
            for told, ts, count in times
            if slot(told) > slot(self.now) - SLOTS
            and (ts // 60_000 + 1) * 60_000 > told // 1000 * 1000 - window_s * 1000
        )

    def judge(self, rule: AlertRule, scope: str, observed: int, limit: int | None) -> None:
        of_month = rule.measure.startswith("credits")
        period = self.month if of_month else ""
        value = Fraction(observed) if limit is None else Fraction(100 * observed, limit)
        reached = {
            "at_least": value >= rule.threshold,
            "above": value > rule.threshold,
            "below": value < rule.threshold,
        }[rule.compare]
        key = rule.name, scope
        if key in self.standing:
            if limit is None:
                rearmed = not reached
            elif rule.compare == "below":
                rearmed = value >= rule.threshold + rule.rearm_points
            else:
                rearmed = value <= rule.threshold - rule.rearm_points
            if rearmed or self.standing[key] != period:
                del self.standing[key]
                self.told.append((rule.name, scope, "cleared", self.now, observed))
        left = Fraction(month_start(month_after(self.month)) - self.now, DAY_MS)
        if rule.days_left_min is not None and left < rule.days_left_min:
            return
        if rule.days_left_above is not None and left <= rule.days_left_above:
            return
        if reached and key not in self.standing:
            self.standing[key] = period
            self.told.append((rule.name, scope, "fired", self.now, observed))
