"""What operators are told of catalogues. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sluicegate_schemas.bounds import Record
from sluicegate_schemas.catalogue import Catalogue

from ..errors import NotFoundError
from .catalogue_check import Remark
from .differences import Difference, differences


class CheckedCatalogue(Record):
    """A file that holds a whole catalogue, how much is in it, and what in it may not be meant."""

    version: int
    effective_at: datetime
    operations: int
    operation_limits: int
    alert_rules: int
    remarks: tuple[Remark, ...]


class CatalogueDifferences(Record):
    """What the file has otherwise than the published version."""

    published_version: int
    version: int
    differences: tuple[Difference, ...]


class PublishedCatalogue(Record):
    """``published`` is false where exactly this was published before."""

    version: int
    effective_at: datetime
    published: bool


def checked_catalogue(found: Catalogue, remarks: Sequence[Remark]) -> CheckedCatalogue:
    """How much is in a catalogue, and what is to be said of it."""
    return CheckedCatalogue(
        version=found.version,
        effective_at=found.effective_at,
        operations=len(found.operations),
        operation_limits=len(found.operation_limits),
        alert_rules=len(found.alert_rules),
        remarks=tuple(remarks),
    )


def compared(known: Mapping[int, Catalogue], new: Catalogue, against: int | None) -> CatalogueDifferences:
    """What ``new`` has otherwise than the published version ``against``, None: the newest. Raises NotFoundError."""
    old = _version(known, against)
    found = tuple(differences(old, new))
    return CatalogueDifferences(published_version=old.version, version=new.version, differences=found)


def _version(known: Mapping[int, Catalogue], against: int | None) -> Catalogue:
    if against is not None and against not in known:
        raise NotFoundError(f"catalogue version {against} is not published")
    if not known:
        raise NotFoundError("no catalogue is published")
    return known[against if against is not None else max(known)]
