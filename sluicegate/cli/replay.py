"""``sluicegate replay``: past traffic under another catalogue, by the workers' own code in a process of its own."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from sluicegate_schemas.money import credits_text
from sluicegate_schemas.replay import ReplayedBlock, ReplayedOrganization, ReplayReport

from .command import command
from .module import run_module
from .session import Session
from .text import amount, time_text
from .values import when

_BLOCKS_SHOWN = 50


def add_to(app: typer.Typer) -> None:
    """Makes the command known."""
    command(app, "replay", prints=ReplayReport)(replay)


async def replay(
    session: Session,
    plan: Annotated[Path, typer.Option(help="The catalogue to try, as a file for `catalog publish`.")],
    begins: Annotated[str, typer.Option("--from", help="When to begin: 1h (ago), a date, an RFC 3339 time.")],
    ends: Annotated[str, typer.Option("--to", help="When to end; the same.")] = "now",
    tier: Annotated[list[str] | None, typer.Option(help="Put an organization on another tier: org_…=pro.")] = None,
) -> None:
    """Replay past traffic as if another catalogue had always been in force: who would have been blocked, when, by which
    limit and for how long, and what it would have cost. Needs the workers' code (the checkout, or their image); reads
    Kafka, writes nothing."""
    times = [when(name, text, session.now, unsigned=-1) for name, text in (("--from", begins), ("--to", ends))]
    words = [word for one in tier or () for word in ("--tier", one)]
    spoken = ("--plan", str(plan), "--from", _rfc_3339(times[0]), "--to", _rfc_3339(times[1]), *words)
    report = await run_module(session, "streams.replay", *spoken, prints=ReplayReport)
    session.screen.record(report, lines(report))


def _rfc_3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lines(one: ReplayReport) -> Iterator[str]:
    """The report for people."""
    yield f"{one.events:,} events from {time_text(one.begins)} to {time_text(one.ends)}, as if the catalogue of"
    yield f"version {one.plan_version} had been in force: {credits_text(one.credits_micro)} credits."
    if one.known_since is None or one.known_since > one.begins:
        yield "The log holds nothing from before: what was used earlier in the month is not counted."
    else:
        yield f"What was used since {time_text(one.known_since)} counts; what was before is not in the log."
    for organization in one.organizations:
        yield ""
        yield from _organization(organization)
    if one.blocks:
        yield ""
        yield "Blocks, oldest first:"
    for block in one.blocks[:_BLOCKS_SHOWN]:
        yield _block(block)
    more = len(one.blocks[_BLOCKS_SHOWN:]) + one.blocks_left_out
    if more:
        yield f"… and {more:,} more (--json tells the first {len(one.blocks):,})"


def _organization(one: ReplayedOrganization) -> Iterator[str]:
    yield f"{one.organization_id} ({one.tier}): {one.requests:,} requests, {credits_text(one.credits_micro)} credits"
    if one.throttled:
        yield f"  {one.throttled:,} of them were answered 429 then, and cost nothing here either"
    total = "no limit" if one.total_micro is None else credits_text(one.total_micro)
    yield f"  used in the month: {credits_text(one.used_micro)} of {total}"
    if one.beyond_micro:
        yield f"  a block on credits would have refused {credits_text(one.beyond_micro)} of that"
    for limit in one.blocked:
        yield (
            f"  blocked by {limit.limit_name} {limit.blocks:,} times, {limit.blocked_ms / 1000:,.1f} s in all, "
            f"first at {time_text(limit.first_at)}"
        )


def _block(one: ReplayedBlock) -> str:
    seconds = "" if one.ended_at is None else f" for {(one.ended_at - one.began_at).total_seconds():,.1f} s"
    until = "still at the end" if one.ended_at is None else f"until {time_text(one.ended_at)}"
    limit, observed = amount(one.limit_name, one.limit), amount(one.limit_name, one.observed)
    return f"  {time_text(one.began_at)} {one.scope.text()} {one.limit_name}: {observed} of {limit}, {until}{seconds}"
