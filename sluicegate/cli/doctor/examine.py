"""The command itself: all checks in their order, and what they come to."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

import typer
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from sluicegate_schemas.bounds import Record
from sluicegate_schemas.topics import USAGE

from ...operator.catalogues import in_force, published
from ...operator.logs import reader
from ..clickhouse import ClickHouse
from ..command import command
from ..exits import Exit
from ..session import Session
from .clock import check_clock
from .finding import Finding, broken, well
from .history import check_clickhouse
from .lags import check_lags
from .topics import check_topics

_PACKAGES: Final = ("sluicegate", "aiokafka", "pydantic", "msgspec", "typer")


class Diagnosis(Record):
    """``healthy`` is whether no finding is an error."""

    healthy: bool
    findings: tuple[Finding, ...]


def add_to(app: typer.Typer) -> None:
    """Makes the command known."""
    command(app, "doctor", prints=Diagnosis)(doctor)


async def doctor(
    session: Session,
    clock_wait: Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait for a record.")] = 6.0,
) -> None:
    """Look at broker, topics, partition counts, settings, catalogue, lags, ClickHouse, clock and versions; exits with 1
    where something is broken. It changes nothing."""
    findings = [
        *await _kafka(session, clock_wait),
        *await check_clickhouse(ClickHouse.from_environment(session.environment)),
        well("versions", ", ".join([f"python {platform.python_version()}", *map(_version, _PACKAGES)])),
    ]
    healthy = all(finding.status != "error" for finding in findings)
    diagnosis = Diagnosis(healthy=healthy, findings=tuple(findings))
    session.screen.record(diagnosis, [line for finding in findings for line in _lines(finding)])
    if not healthy:
        raise typer.Exit(Exit.FOUND)


async def _kafka(session: Session, clock_wait_s: float) -> list[Finding]:
    servers = session.brokers.bootstrap_servers
    admin = AIOKafkaAdminClient(**session.brokers.options())
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        findings = [well("broker", f"{servers} answers, {len(cluster['brokers'])} in the cluster")]
        findings += await check_topics(session, admin)
        if any(finding.check == "topics" and finding.status == "error" for finding in findings):
            return findings
        findings.append(await _catalogue(session))
        async with reader(session.brokers) as consumer:
            findings += await check_lags(session, admin, consumer)
            topic = session.topic(USAGE)
            partitions = [TopicPartition(topic, number) for number in sorted(await _numbers(admin, topic))]
            findings.append(await check_clock(consumer, partitions, clock_wait_s))
    except (KafkaError, OSError) as error:
        said = str(error) or type(error).__name__
        remedy = "start it, and see SLUICEGATE_BOOTSTRAP_SERVERS, SLUICEGATE_KAFKA_USERNAME and _PASSWORD"
        return [broken("broker", f"{servers} cannot be used: {said}", remedy)]
    finally:
        await admin.close()
    return findings


async def _numbers(admin: AIOKafkaAdminClient, name: str) -> set[int]:
    return {
        partition["partition"]
        for topic in await admin.describe_topics()
        if topic["topic"] == name
        for partition in topic["partitions"]
    }


async def _catalogue(session: Session) -> Finding:
    catalogues = await published(session)
    now = in_force(catalogues, session.now)
    if now is None:
        return broken(
            "catalogue",
            "no version is in force: nothing can be rated, so workers wait",
            "sluicegate catalog publish catalogue/default.toml",
        )
    coming = [one.version for one in catalogues.values() if one.effective_at > session.now]
    return well("catalogue", f"version {now.version} is in force" + (f", to come: {sorted(coming)}" if coming else ""))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


def _lines(finding: Finding) -> list[str]:
    lines = [f"{finding.status:<8} {finding.check:<11} {finding.detail}"]
    return lines if not finding.remedy else [*lines, f"{'':<20} → {finding.remedy}"]
