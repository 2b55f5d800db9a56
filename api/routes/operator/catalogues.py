"""Catalogues over HTTP: checked, compared and published as the TOML files that they are."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from sluicegate.operator.catalogue_check import check_catalogue
from sluicegate.operator.catalogue_reports import (
    CatalogueDifferences,
    CheckedCatalogue,
    PublishedCatalogue,
    checked_catalogue,
    compared,
)
from sluicegate.operator.catalogues import in_force
from sluicegate.operator.plans import LEAD_MIN
from sluicegate_schemas.bounds import Record, Time
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.files import load_catalogue

from ...auth import OperatorReads, OperatorWrites
from ...problems import not_found
from .asking import PREFIX, as_problems, desk_of, now_of, parts_of, record_answer, shows
from .toml_bodies import TOML_BODY, toml_text

router = APIRouter(tags=["operator catalogues"])
CATALOGUES: Final = f"{PREFIX}/catalogues"
Version = Annotated[int, Path(ge=1, le=2**31 - 1)]
Against = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="A published version; default the newest")]
LeadSeconds = Annotated[
    int, Query(ge=0, le=366 * 86_400, description="How far ahead a further version must take effect")
]


LEAD_SECONDS: Final = round(LEAD_MIN.total_seconds())


class KnownCatalogue(Record):
    """A published version, who published it and when."""

    version: int
    effective_at: Time
    in_force: bool
    published_by: str
    published_at: Time


class KnownCatalogues(Record):
    """All of them, by version."""

    catalogues: tuple[KnownCatalogue, ...]


@router.get(CATALOGUES, **shows(KnownCatalogues))
async def list_catalogues(request: Request, _: OperatorReads) -> Response:
    """The published versions."""
    with as_problems():
        found = await desk_of(request).catalogues()
    now = in_force(_contents(found), now_of(parts_of(request)))
    known = [
        KnownCatalogue(
            version=version,
            effective_at=one.catalogue.effective_at,
            in_force=one.catalogue is now,
            published_by=one.published_by,
            published_at=one.published_at,
        )
        for version, one in sorted(found.items())
    ]
    return record_answer(KnownCatalogues(catalogues=tuple(known)))


@router.get(f"{CATALOGUES}/{{version}}", **shows(Catalogue))
async def get_catalogue(request: Request, _: OperatorReads, version: Version) -> Response:
    """A published version, as workers read it."""
    with as_problems():
        found = (await desk_of(request).catalogues()).get(version)
    if found is None:
        raise not_found("version")
    return record_answer(found.catalogue)


@router.post(f"{CATALOGUES}/check", openapi_extra=TOML_BODY, **shows(CheckedCatalogue))
async def check(request: Request, _: OperatorReads) -> Response:
    """Checks a catalogue: what is wrong, or may not be meant, with its line. Nothing is published."""
    text = await toml_text(request)
    with as_problems():
        found, remarks = check_catalogue(text)
    return record_answer(checked_catalogue(found, remarks))


@router.post(f"{CATALOGUES}/diff", openapi_extra=TOML_BODY, **shows(CatalogueDifferences))
async def diff(request: Request, _: OperatorReads, against: Against = None) -> Response:
    """What a catalogue would change against a published version."""
    text = await toml_text(request)
    with as_problems():
        new = load_catalogue(text)
        return record_answer(compared(_contents(await desk_of(request).catalogues()), new, against))


@router.post(CATALOGUES, openapi_extra=TOML_BODY, **shows(PublishedCatalogue))
async def publish(request: Request, operator: OperatorWrites, lead_seconds: LeadSeconds = LEAD_SECONDS) -> Response:
    """Publishes a version, which never changes then: again changes nothing, with another content it is refused."""
    text = await toml_text(request)
    with as_problems():
        new = load_catalogue(text)
        now, lead = now_of(parts_of(request)), timedelta(seconds=lead_seconds)
        published = await desk_of(request).publish(new, now=now, by=operator.name, lead=lead)
    is_new = published.catalogue_version is not None
    return record_answer(PublishedCatalogue(version=new.version, effective_at=new.effective_at, published=is_new))


def _contents(published: Mapping[int, CatalogueRecord]) -> dict[int, Catalogue]:
    return {version: record.catalogue for version, record in published.items()}
