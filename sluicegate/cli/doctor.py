"""``sluicegate doctor``: what is wrong with a running system, and the remedy."""

from typing import Annotated, Final

import typer

from ..operator.doctor import Diagnosis, Finding, diagnose
from ..operator.doctor.examine import CLOCK_WAIT_S
from ..operator.doctor.lags import Groups
from .clickhouse import ClickHouse
from .command import command
from .exits import Exit
from .session import Session

_PACKAGES: Final = ("sluicegate", "aiokafka", "pydantic", "msgspec", "typer")


def add_to(app: typer.Typer) -> None:
    """Makes the command known."""
    command(app, "doctor", prints=Diagnosis)(doctor)


async def doctor(
    session: Session,
    clock_wait: Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait for a record.")] = CLOCK_WAIT_S,
) -> None:
    """Look at broker, topics, partition counts, settings, catalogue, lags, ClickHouse, clock and versions; exits with 1
    where something is broken. It changes nothing."""
    clickhouse = ClickHouse.from_environment(session.environment)
    diagnosis = await diagnose(
        session,
        now=session.now,
        groups=Groups.from_environment(session.environment),
        partitions=session.environment.get("SLUICEGATE_PARTITIONS"),
        clickhouse_url=clickhouse.url,
        select=clickhouse.rows,
        packages=_PACKAGES,
        clock_wait_s=clock_wait,
    )
    session.screen.record(diagnosis, [line for finding in diagnosis.findings for line in _lines(finding)])
    if not diagnosis.healthy:
        raise typer.Exit(Exit.FOUND)


def _lines(finding: Finding) -> list[str]:
    lines = [f"{finding.status:<8} {finding.check:<11} {finding.detail}"]
    return lines if not finding.remedy else [*lines, f"{'':<20} → {finding.remedy}"]
