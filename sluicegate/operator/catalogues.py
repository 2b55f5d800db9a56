"""The published catalogues, as operators need them."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import ValidationError

from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.topics import CATALOG

from .logs import read_all
from .system import System


async def published(system: System) -> dict[int, Catalogue]:
    """By version; see ``publications``."""
    return {version: record.catalogue for version, record in (await publications(system)).items()}


async def publications(system: System) -> dict[int, CatalogueRecord]:
    """By version, with who published it and when; the first record of a version counts, and what cannot be read is left
    out."""
    found: dict[int, CatalogueRecord] = {}
    async for record in read_all(system.brokers, system.topic(CATALOG)):
        if record.value is None:
            continue
        try:
            publication = CatalogueRecord.model_validate_json(record.value)
        except ValidationError:
            continue
        found.setdefault(publication.catalogue.version, publication)
    return found


def in_force(catalogues: Mapping[int, Catalogue], at: datetime) -> Catalogue | None:
    """The version that is in force at ``at``."""
    begun = [one for one in catalogues.values() if one.effective_at <= at]
    return max(begun, key=lambda one: (one.effective_at, one.version), default=None)
