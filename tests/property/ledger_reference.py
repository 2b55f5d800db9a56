"""What an account's credits must come to: each cost burned as it comes, from the history alone.

Shares no code with the machine, and puts nothing off: sources are looked at anew at every instant at which one begins
or ends.
"""

from dataclasses import dataclass, field

from stack.rating import month_of, month_span_ms

DAY_MS = 86_400_000
FOREVER = 2**62


def month_before(month: str) -> str:
    return month_of(month_span_ms(month)[0] - 1)


def month_after(month: str) -> str:
    return month_of(month_span_ms(month)[1])


@dataclass
class Gift:
    """A grant, of whatever kind."""

    name: tuple[str, str]
    left: int
    priority: int
    since_ms: int
    until_ms: int

    def is_alive(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms < self.until_ms


@dataclass
class Book:
    """A month of the account."""

    plan: int | None
    used: int = 0
    by_plan: int = 0
    by_gifts: int = 0
    total: int | None = None

    @property
    def overage(self) -> int:
        return self.used - self.by_plan - self.by_gifts


@dataclass
class LedgerReference:
    """One account. ``plan`` is what its plan gives a month now, None without end."""

    now_ms: int
    plan: int | None
    rolls_over: bool = False
    books: dict[str, Book] = field(default_factory=dict)
    gifts: list[Gift] = field(default_factory=list)
    used: dict[tuple[str, str], int] = field(default_factory=dict)
    """By (organization, month)."""
    rolled: set[str] = field(default_factory=set)

    @property
    def month(self) -> str:
        return month_of(self.now_ms)

    def book(self, month: str) -> Book:
        if month not in self.books:
            self.books[month] = Book(self.plan)
        return self.books[month]

    def is_closed(self, month: str) -> bool:
        return month < self.month and self.now_ms >= month_span_ms(month)[1] + DAY_MS

    def pass_time(self, to_ms: int) -> None:
        """Stops at each instant at which a source begins or ends, since that may pay or lose something."""
        ends = {month_span_ms(month)[1] for month in [self.month, *self.books]}
        stops = {time for gift in self.gifts for time in (gift.since_ms, gift.until_ms)} | ends
        for stop_ms in sorted(one for one in stops | {to_ms} if self.now_ms < one <= to_ms):
            if month_of(stop_ms) != self.month:
                self.measure(self.month, month_span_ms(self.month)[1] - 1)
            self.now_ms = stop_ms
            self.pay(self.month, stop_ms)

    def after(self) -> None:
        """Behind each record: what a closed month left of its plan is granted to the current one."""
        month = month_before(self.month)
        if not self.is_closed(month) or month in self.rolled:
            return
        self.rolled.add(month)
        book = self.books.get(month)
        if self.rolls_over and book is not None and book.plan is not None and book.plan > book.by_plan:
            left = book.plan - book.by_plan
            self.give(Gift(("rollover", month), left, 90, self.now_ms, month_span_ms(self.month)[1]))

    def pay(self, month: str, at_ms: int) -> None:
        """Burns what ``month`` owes out of what is alive at ``at_ms``, in the order of the contract."""
        book = self.books.get(month)
        if book is None:
            return
        start_ms, end_ms = month_span_ms(month)
        alive = [gift for gift in self.gifts if gift.is_alive(at_ms)]
        sources: list[Gift | None] = sorted(
            [None, *alive],
            key=lambda one: (
                (100, end_ms, start_ms, "", "")
                if one is None
                else (one.priority, one.until_ms, one.since_ms, *one.name)
            ),
        )
        for source in sources:
            if source is None:
                micro = book.overage if book.plan is None else min(book.overage, book.plan - book.by_plan)
                book.by_plan += micro
            else:
                micro = min(book.overage, source.left)
                source.left -= micro
                book.by_gifts += micro
            assert micro >= 0
        self.measure(month, at_ms)

    def measure(self, month: str, at_ms: int) -> None:
        book = self.books.get(month)
        if book is not None:
            left = sum(gift.left for gift in self.gifts if gift.is_alive(at_ms))
            book.total = None if book.plan is None else book.plan + book.by_gifts + left

    def use(self, organization: str, micro: int, month: str) -> str:
        """Books a cost of ``month``; returns the month that takes it."""
        if self.is_closed(month):
            month = self.month
        self.book(month).used += micro
        place = organization, month
        self.used[place] = self.used.get(place, 0) + micro
        if month == self.month:
            self.pay(month, self.now_ms)
        elif month < self.month:
            self.pay(self.month, self.now_ms)
            self.pay(month, month_span_ms(month)[1] - 1)
            self.measure(self.month, self.now_ms)
        return month

    def give(self, gift: Gift) -> None:
        self.book(self.month)
        gift.since_ms = max(gift.since_ms, self.now_ms)
        if gift.until_ms > gift.since_ms:
            self.gifts = [one for one in self.gifts if one.name != gift.name]
            self.gifts.append(gift)
        self.pay(self.month, self.now_ms)

    def take_back(self, name: tuple[str, str]) -> None:
        self.gifts = [gift for gift in self.gifts if gift.name != name]
        self.measure(self.month, self.now_ms)

    def change_plan(self, plan: int | None) -> None:
        """Up at once, down with the next month."""
        book = self.book(self.month)
        self.plan = plan
        if plan is None or (book.plan is not None and plan > book.plan):
            book.plan = plan
        if month_after(self.month) in self.books:
            self.books[month_after(self.month)].plan = plan
        self.pay(self.month, self.now_ms)
