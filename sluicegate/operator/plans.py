"""What a publication would write, decided from what is published already. Pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sluicegate_schemas.accounts import KeyPut, KeyRevoke, OrganizationPut
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord

from ..errors import PublishRefusedError

Command = OrganizationPut | KeyPut | KeyRevoke


def catalogue_to_publish(
    published: Mapping[int, Catalogue], new: Catalogue, *, now: datetime, lead: timedelta, by: str
) -> CatalogueRecord | None:
    """The record that makes ``new`` known; None if it is published already.

    Versions are immutable and take effect in the future, at least ``lead`` ahead, so that every worker knows them in
    time and a replay rates the same; the first catalogue of all may have begun already. Raises PublishRefusedError.
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
    earliest = max(now + lead, newest.effective_at + timedelta(milliseconds=1))
    if new.effective_at < earliest:
        raise PublishRefusedError(
            f"version {new.version} would take effect at {new.effective_at.isoformat()}, but must not before "
            f"{earliest.isoformat()}: {lead.total_seconds():g} s from now, and after version {newest.version}"
        )
    return record


def commands_to_publish(published_ids: Collection[str], commands: Sequence[Command]) -> list[Command]:
    """Those of ``commands`` that are not published yet, in their order."""
    return [command for command in commands if command.command_id not in published_ids]
