"""Looks at the broker and its topics: all there, with the right partition counts and settings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from sluicegate_schemas.topics import SETTINGS_ALL, TOPICS

from ..system import System
from .finding import Finding, broken, warning, well

_RETENTION: Final = "retention.ms"
_REMEDY: Final = "kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {name}={value}"


async def check_topics(system: System, admin: AIOKafkaAdminClient, partitions_set: str | None) -> list[Finding]:
    """Existence, partition counts and settings of all topics; see ``check_counts``. Raises KafkaError."""
    found = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    counts = {topic.name: found.get(system.topic(topic), 0) for topic in TOPICS}
    findings = check_counts(system.topic_prefix, counts, partitions_set)
    present = [topic for topic in TOPICS if counts[topic.name]]
    try:
        settings = await _settings(admin, [system.topic(topic) for topic in present])
    except KafkaError as error:
        return [
            *findings,
            warning("settings", f"the topics' settings may not be seen: {error}", "use the operator's role"),
        ]
    return [*findings, *check_settings(system.topic_prefix, settings)]


def check_counts(prefix: str, counts: Mapping[str, int], partitions_set: str | None) -> list[Finding]:
    """The partition counts by topic, 0 for a missing one, against each other and SLUICEGATE_PARTITIONS."""
    findings = []
    if missing := [prefix + name for name, count in counts.items() if not count]:
        findings.append(
            broken(
                "topics", f"missing: {', '.join(missing)}", "start a worker, which creates them (python -m streams.app)"
            )
        )
    by_account = {topic.name: counts[topic.name] for topic in TOPICS if topic.partitions == "account"}
    usual = Counter(count for count in by_account.values() if count).most_common(1)
    wanted = int(partitions_set) if partitions_set and partitions_set.isdecimal() else usual[0][0] if usual else 0
    for topic in TOPICS:
        count = counts[topic.name]
        right = {"account": wanted, "one": 1, "free": count}[topic.partitions]
        if count and count != right:
            findings.append(
                broken(
                    "partitions",
                    f"{prefix}{topic.name} has {count} partitions, and must have {right}",
                    "accounts live where that number says: begin a new generation of topics under another "
                    "SLUICEGATE_TOPIC_PREFIX, or set SLUICEGATE_PARTITIONS to what all others have",
                )
            )
    if not findings:
        findings.append(well("topics", f"all {len(TOPICS)} are there, {wanted} partitions by account"))
    return findings


def check_settings(prefix: str, settings: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """The settings of topics by full name against the table that the workers create them by."""
    findings = []
    for topic in TOPICS:
        found = settings.get(prefix + topic.name)
        if found is None:
            continue
        for name, value in {**SETTINGS_ALL, **topic.settings}.items():
            actual = found.get(name, "")
            if actual == value or (name == _RETENTION and _is_longer(actual, value)):
                continue
            remedy = _REMEDY.format(topic=prefix + topic.name, name=name, value=value)
            is_grave = name in ("message.timestamp.type", "cleanup.policy")
            finding = broken if is_grave else warning
            findings.append(
                finding("settings", f"{prefix}{topic.name} has {name}={actual or '?'}, not {value}", remedy)
            )
    return findings or [well("settings", "every topic has the settings that it needs")]


def _is_longer(actual: str, wanted: str) -> bool:
    try:
        return int(actual) == -1 or (int(wanted) != -1 and int(actual) >= int(wanted))
    except ValueError:
        return False


async def _settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    settings: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources) if resources else []:
        resource: Any
        for resource in response.resources:
            _, _, _, name, entries = resource
            settings[name] = {entry[0]: entry[1] or "" for entry in entries}
    return settings
