"""Each accepted event is counted exactly once in every counter and ledger; used = the sum of the rated events.

Compares the rows of one partition with what its input must have come to (requirements, section 8, sentences 1 and 3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction

from .. import rows as state
from ..expected import Expected, month_bounds
from ..expected_accounts import BUCKETS
from ..plan import DAY_MS, MINUTE_MS

SHOWN = 3


def compare(rows: Mapping[bytes, bytes], removed_cells: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """What differs, in words. ``removed_cells`` are the last payloads of the rollup cells that left the state."""
    yield from _totals(rows, expected)
    yield from _ledgers(rows, expected)
    yield from _cells(rows, removed_cells, expected)
    yield from _buckets(rows, expected)
    yield from _operation_buckets(rows, expected)


def _totals(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    row = state.totals_row(rows.get(b"t|totals"))
    accounts = expected.accounts
    wanted = (
        expected.counted, expected.duplicate, expected.rejected, expected.forwarded, accounts.commands,
        accounts.commands_repeated,
    )  # fmt: skip
    if row[1:] != wanted:
        yield (
            f"partition {expected.partition}: (counted, duplicate, rejected, forwarded, commands, repeated) is "
            f"{row[1:]}, must be {wanted}"
        )


def _some(what: str, differences: list[str]) -> Iterable[str]:
    if differences:
        more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        yield f"{what}: {'; '.join(differences[:SHOWN])}{more}"


def _ledgers(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    month, start_ms, _ = month_bounds(expected.now_ms // DAY_MS)
    before = month_bounds(start_ms // DAY_MS - 1)
    oldest = month_bounds(before[1] // DAY_MS - 1)[0]
    found = {state.ledger_place(key): state.ledger_row(one) for key, one in rows.items() if key.startswith(b"l|")}
    differences = []
    for place in sorted(found.keys() | expected.ledgers.keys()):
        place = state.LedgerPlace(*place)
        if place.month < oldest:
            continue
        wanted, row = expected.ledgers.get(place), found.get(place)
        groups = {name: micro for name, micro in (wanted.groups if wanted else {}).items() if micro}
        corrections = {name: micro for name, micro in (wanted.corrections if wanted else {}).items() if micro}
        must_be = sum(groups.values()), groups, wanted.requests if wanted else 0, corrections
        if row is None:
            is_ = 0, {}, 0, {}
        else:
            breakdown = {name: micro for name, micro in zip(state.GROUPS, row.breakdown_micro, strict=True) if micro}
            is_ = row.used_micro, breakdown, row.requests, row.corrections_micro
        if is_ != must_be:
            differences.append(f"{'/'.join(place)} is {is_}, must be {must_be}")
        if row is not None and place.kind == "account" and place.month in (month, before[0]):
            total = expected.commands.credits.total_micro(place.name)
            if place.month == month and row.total_micro != total:
                differences.append(f"the credits of {'/'.join(place)} are {row.total_micro}, must be {total}")
    yield from _some(f"ledgers of partition {expected.partition}", differences)


def summed(cells: Iterable[tuple[bytes, bytes]]) -> dict[tuple[str, str, str, int], list[int]]:
    """Amounts by (organization, key, operation, minute) over all chunks; none where all are 0."""
    sums: defaultdict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0] * 6)
    for key, payload in cells:
        total = sums[state.cell_place(key)[:4]]
        for place, amount in enumerate(state.cell_row(payload).amounts):
            total[place] += amount
    return {place: total for place, total in sums.items() if any(total)}


def _cells(rows: Mapping[bytes, bytes], removed: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    found = summed([*((key, one) for key, one in rows.items() if key.startswith(b"c|")), *removed.items()])
    wanted = {place: total for place, total in expected.cells.items() if any(total)}
    if found == wanted:
        return
    differences = [
        f"{place} is {found.get(place)}, must be {wanted.get(place)}"
        for place in sorted(found.keys() | wanted.keys())
        if found.get(place) != wanted.get(place)
    ]
    yield from _some(f"rollup cells of partition {expected.partition}", differences)


def _buckets(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """What a key's buckets hold, debt included, is what its requests left there."""
    now_ms, differences = expected.now_ms, []
    names = {key.decode()[2:] for key in rows if key.startswith(b"b|")} | expected.accounts.buckets.keys()
    for name in sorted(names):
        payload, buckets = rows.get(f"b|{name}".encode()), expected.accounts.buckets.get(name)
        must_be = [Fraction(0)] * len(BUCKETS) if buckets is None else [bucket.held(now_ms) for bucket in buckets]
        is_ = [Fraction(0)] * len(BUCKETS)
        if payload is not None:
            row = state.buckets_row(payload)
            minutes = zip(row.category_rates, row.category_arrivals, strict=True)
            for place, (rate, arrival, period) in enumerate((
                (row.requests_per_second, row.second_arrival, 1_000),
                (row.requests_per_minute, row.minute_arrival, 60_000),
                *((rate, arrival, 60_000) for rate, arrival in minutes),
            )):  # fmt: skip
                is_[place] = max(Fraction(0), Fraction(int(arrival) - now_ms * rate, period))
        if is_ != must_be:
            differences.append(f"{name} holds {is_}, must hold {must_be}")
    yield from _some(f"buckets of partition {expected.partition}", differences)


def _operation_buckets(rows: Mapping[bytes, bytes], expected: Expected) -> Iterable[str]:
    """What an organization used of a provider, debt included."""
    now_ms, differences = expected.now_ms, []
    found = {tuple(key.decode().split("|")[1:]): one for key, one in rows.items() if key.startswith(b"r|")}
    for place in sorted(found.keys() | expected.operations.buckets.keys()):
        bucket, held = expected.operations.buckets.get(place), Fraction(0)  # type: ignore[call-overload]  # three words
        if place in found:
            limit, arrival = state.operation_bucket(found[place])
            held = max(held, Fraction(arrival - now_ms * limit, MINUTE_MS))
        must_be = Fraction(0) if bucket is None else bucket.held(now_ms)
        if held != must_be:
            differences.append(f"{'/'.join(place)} holds {held}, must hold {must_be}")
    yield from _some(f"operations' buckets of partition {expected.partition}", differences)
