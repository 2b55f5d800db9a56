"""Gates: each bucket's promise, blocks that are obeyed once a gateway has heard of them, and heard of in time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..gateway import Admission

_HEARD_WITHIN_MS = 2_500
_TOKEN_STATUSES = (200, 403)


class Said(NamedTuple):
    """A decision as it was appended: when (virtual ms), whether it blocks, its sequence, and until when (epoch ms)."""

    at_ms: int
    is_block: bool
    sequence: tuple[int, int]
    until_ms: int | None


def buckets_keep_their_promise(answers: Sequence[Admission]) -> Iterable[str]:
    """Over any time t, a gateway lets at most capacity + rate × t of a key's requests through."""
    runs: dict[tuple[str, str], list[Admission]] = defaultdict(list)
    for answer in answers:
        if answer.status in _TOKEN_STATUSES and answer.rates is not None:
            runs[answer.gateway, answer.api_key_id].append(answer)
    for (gateway, key), run in runs.items():
        for limit_name, period_ms, rate_at, capacity_at in (
            ("requests_per_second", 1_000, 0, 1),
            ("requests_per_minute", 60_000, 2, 2),
        ):
            level, last = 0, run[0]
            for answer in run:
                if limit_name in answer.exempt:
                    level, last = 0, answer
                    continue
                assert answer.rates is not None
                if answer.rates != last.rates or answer.at_ms < last.at_ms:
                    level, last = 0, answer
                rate, capacity = answer.rates[rate_at], answer.rates[capacity_at]
                level = max(0, level - (answer.at_ms - last.at_ms) * rate) + period_ms
                last = answer
                if level > capacity * period_ms:
                    yield f"{gateway} let more requests of {key} through than {capacity} and {rate} in {period_ms} ms"
                    break


def slots_are_kept(answers: Sequence[Admission]) -> Iterable[str]:
    """A gateway by itself serves no more requests of an organization at a time than it may have."""
    for answer in answers:
        if answer.status == 200 and answer.slots is not None and answer.running >= answer.slots:
            yield f"{answer.gateway} let {answer.api_key_id} pass, whose organization had {answer.running} running"
            return


def once_per_subject(answers: Sequence[Admission], interval_ms: int) -> Iterable[str]:
    """A gateway by itself lets a batch in once in a while, unless it failed."""
    last: dict[tuple[str, str, str], Admission] = {}
    for answer in answers:
        request = answer.request
        if answer.status != 200 or answer.operation != "batch.submit" or request.subject is None:
            continue
        place = answer.gateway, request.tenant.organization_id, request.subject
        before = last.get(place)
        if before is not None and before.request.status < 500 and 0 <= answer.at_ms - before.at_ms < interval_ms:
            yield f"{answer.gateway} let the batch {request.subject} of {answer.api_key_id} in again too soon"
            return
        last[place] = answer


def blocks_are_obeyed(answers: Sequence[Admission]) -> Iterable[str]:
    """Nothing passes a block that the gateway's view holds."""
    for answer in answers:
        if answer.status != 200:
            continue
        for block in answer.blocked:
            if block.partition(":")[0] in answer.exempt:
                continue
            if not block.startswith("credits:") or answer.is_priced:
                yield f"{answer.gateway} let {answer.operation} of {answer.api_key_id} pass, though it knew of {block}"
                return


def blocks_are_heard_of(
    answers: Sequence[Admission], said: Mapping[str, Sequence[Said]], troubled: Sequence[tuple[int, int]]
) -> Iterable[str]:
    """A block that was said a while ago is in the view of a gateway that nothing has happened to.

    ``troubled`` are the spans of virtual time in which something was wrong with Kafka or a gateway.
    """
    for answer in answers:
        if answer.status != 200 or answer.up_for_ms < _HEARD_WITHIN_MS:
            continue
        names = [f"requests_per_second:key:{answer.api_key_id}", f"requests_per_minute:key:{answer.api_key_id}"]
        if answer.is_priced:
            names.append(f"credits:account:{answer.account_id}")
        for name in names:
            newest = max(
                (one for one in said.get(name, ()) if one.at_ms <= answer.virtual_ms),
                key=lambda one: one.sequence,
                default=None,
            )
            if name.partition(":")[0] in answer.exempt:
                continue
            if newest is None or not newest.is_block or newest.at_ms > answer.virtual_ms - _HEARD_WITHIN_MS:
                continue
            if newest.until_ms is not None and newest.until_ms <= answer.at_ms:
                continue
            if any(start <= answer.virtual_ms and newest.at_ms <= end for start, end in troubled):
                continue
            yield (
                f"{answer.gateway} let {answer.operation} of {answer.api_key_id} pass at {answer.virtual_ms}, though "
                f"{name} was blocked at {newest.at_ms}"
            )
            return
