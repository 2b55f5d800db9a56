"""``sluicegate catalog``: plans and the rate card as versions."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from sluicegate_schemas.files import load_catalogue

from ..operator.catalogue_check import check_catalogue
from ..operator.catalogue_reports import (
    CatalogueDifferences,
    CheckedCatalogue,
    PublishedCatalogue,
    checked_catalogue,
    compared,
)
from ..operator.catalogues import published
from ..operator.plans import LEAD_MIN
from ..operator.publish import publish
from .change import By
from .command import command, group
from .exits import Exit
from .files import read_file
from .session import Session
from .text import time_text

File = Annotated[Path, typer.Argument(help="A catalogue as TOML (catalogue/default.toml).")]

app = group("catalog", "Plans and the rate card, as versions.")


@command(app, "check", prints=CheckedCatalogue)
async def check(session: Session, file: File) -> None:
    """Check a catalogue file; what is wrong, or may not be meant, is named with its line. Needs no broker."""
    found, remarks = read_file(file, check_catalogue)
    checked = checked_catalogue(found, remarks)
    counts = f"{checked.operations} operations, {checked.operation_limits} limits, {checked.alert_rules} alert rules"
    line = f"{file}: version {found.version} from {time_text(found.effective_at)}: {counts}"
    said = [f"{file}, line {one.line}: {one.field}: {one.sentence}" for one in remarks]
    session.screen.record(checked, [line, *said])


@command(app, "diff", prints=CatalogueDifferences)
async def diff(
    session: Session,
    file: File,
    against: Annotated[int | None, typer.Option(min=1, help="A published version; default the newest.")] = None,
) -> None:
    """Show what a file would change against a published version; exits with 1 where it differs."""
    new = read_file(file, load_catalogue)
    record = compared(await published(session), new, against)
    lines = [f"{one.path}: {one.before} → {one.after}" for one in record.differences]
    session.screen.record(record, lines or [f"the file holds what version {record.published_version} is"])
    if record.differences:
        raise typer.Exit(Exit.FOUND)


@command(app, "publish", prints=PublishedCatalogue)
async def publish_file(
    session: Session,
    file: File,
    lead_seconds: Annotated[
        int, typer.Option(min=0, help="How far ahead a further version must take effect; the default is the least.")
    ] = round(LEAD_MIN.total_seconds()),
    by: By = None,
) -> None:
    """Publish a catalogue file; again changes nothing. A further version takes effect at least six minutes ahead."""
    catalogue = read_file(file, load_catalogue)
    result = await publish(
        session.brokers,
        topic_prefix=session.topic_prefix,
        catalogue=catalogue,
        commands=[],
        now=session.now,
        by=session.operator(by),
        lead=timedelta(seconds=lead_seconds),
    )
    is_new = result.catalogue_version is not None
    record = PublishedCatalogue(version=catalogue.version, effective_at=catalogue.effective_at, published=is_new)
    said = f"published, in force from {time_text(catalogue.effective_at)}" if is_new else "was published before"
    session.screen.record(record, [f"catalogue version {catalogue.version}: {said}"])
