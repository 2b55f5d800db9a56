"""What a publication would write, decided from what is published already. Pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sluicegate_schemas.accounts import AnyCommand
from sluicegate_schemas.bounds import CLOCK_AHEAD_MS_MAX
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord

from ..errors import PublishRefusedError

CATALOGUE_AGE_TOLERATED: Final = timedelta(seconds=5)
"""How long a worker goes on rating without having seen the catalog topic's end, by default."""
_MARGIN: Final = timedelta(seconds=55)
"""For clocks that differ, and for the time between this decision and the broker's append."""
LEAD_MIN: Final = timedelta(milliseconds=CLOCK_AHEAD_MS_MAX) + CATALOGUE_AGE_TOLERATED + _MARGIN
"""How far ahead a further version must take effect, at least: 6 minutes. An event's time may lie ahead of the broker's;
were a version in force within that reach, an event that the older card has rated already would be rated otherwise by a
replay."""


def catalogue_to_publish(
    published: Mapping[int, Catalogue], new: Catalogue, *, now: datetime, lead: timedelta, by: str
) -> CatalogueRecord | None:
    """The record that makes ``new`` known; None if it is published already.

    Versions are immutable and take effect in the future, at least ``lead`` ahead and that at least ``LEAD_MIN``, so
    that every worker knows them in time and a replay rates the same. The first catalogue of all may have begun already,
    whatever ``lead``: no event was rated before it. Raises PublishRefusedError.
    """
    record = CatalogueRecord(catalogue=new, published_at=now, published_by=by)
    known = published.get(new.version)
    if known is not None:
        if known == new:
            return None
        raise PublishRefusedError(
            f"catalogue version {new.version} is published with another content, and versions never change: "
            f"raise version to {max(published) + 1} and set effective_at to a time that lies ahead"
        )
    if not published:
        return record
    newest = published[max(published)]
    if new.version < newest.version:
        raise PublishRefusedError(f"version {new.version} is below the newest, {newest.version}: raise it")
    if lead < LEAD_MIN:
        raise PublishRefusedError(
            f"a lead of {lead.total_seconds():g} s is too short for version {new.version}: events may be dated "
            f"{CLOCK_AHEAD_MS_MAX // 1000} s ahead and are rated as they arrive, and a replay must rate them the same; "
            f"give {LEAD_MIN.total_seconds():g} s or more"
        )
    earliest = max(now + lead, newest.effective_at + timedelta(milliseconds=1))
    if new.effective_at < earliest:
        raise PublishRefusedError(
            f"version {new.version} would take effect at {new.effective_at.isoformat()}, but must not before "
            f"{earliest.isoformat()}: {lead.total_seconds():g} s from now, and after version {newest.version}"
        )
    return record


def commands_to_publish(published_ids: Collection[str], commands: Sequence[AnyCommand]) -> list[AnyCommand]:
    """Those of ``commands`` that are not published yet, in their order."""
    return [command for command in commands if command.command_id not in published_ids]
