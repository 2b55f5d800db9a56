"""All checks in their order, and what they come to."""

import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from sluicegate_schemas.bounds import Record
from sluicegate_schemas.topics import USAGE

from ..catalogues import in_force, published
from ..logs import reader
from ..system import System
from .clock import check_clock
from .finding import Finding, broken, well
from .history import Select, check_clickhouse
from .lags import Groups, check_lags
from .topics import check_topics

CLOCK_WAIT_S: Final = 6.0
"""Workers let the log's time pass by a tick each five seconds."""


class Diagnosis(Record):
    """``healthy`` is whether no finding is an error."""

    healthy: bool
    findings: tuple[Finding, ...]


async def diagnose(
    system: System,
    *,
    now: datetime,
    groups: Groups,
    partitions: str | None,
    clickhouse_url: str,
    select: Select,
    packages: tuple[str, ...],
    clock_wait_s: float = CLOCK_WAIT_S,
) -> Diagnosis:
    """Looks at everything; what is away is a finding. ``partitions``: what SLUICEGATE_PARTITIONS says, if anything."""
    findings = (
        *await _kafka(system, now, groups, partitions, clock_wait_s),
        *await check_clickhouse(clickhouse_url, select),
        well("versions", ", ".join([f"python {platform.python_version()}", *map(_version, packages)])),
    )
    return Diagnosis(healthy=all(finding.status != "error" for finding in findings), findings=findings)


async def _kafka(
    system: System, now: datetime, groups: Groups, partitions_set: str | None, clock_wait_s: float
) -> list[Finding]:
    servers = system.brokers.bootstrap_servers
    admin = AIOKafkaAdminClient(**system.brokers.options())
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        findings = [well("broker", f"{servers} answers, {len(cluster['brokers'])} in the cluster")]
        findings += await check_topics(system, admin, partitions_set)
        if any(finding.check == "topics" and finding.status == "error" for finding in findings):
            return findings
        findings.append(await _catalogue(system, now))
        async with reader(system.brokers) as consumer:
            findings += await check_lags(system, admin, consumer, groups)
            topic = system.topic(USAGE)
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


async def _catalogue(system: System, at: datetime) -> Finding:
    catalogues = await published(system)
    now = in_force(catalogues, at)
    if now is None:
        return broken(
            "catalogue",
            "no version is in force: nothing can be rated, so workers wait",
            "sluicegate catalog publish catalogue/default.toml",
        )
    coming = [one.version for one in catalogues.values() if one.effective_at > at]
    return well("catalogue", f"version {now.version} is in force" + (f", to come: {sorted(coming)}" if coming else ""))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"
