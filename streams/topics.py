"""The topics exist with the partitions and settings they need, or the worker does not start.

A topic that the broker made by itself, or one whose partition count was changed, would split an account over two
partitions: events would be counted twice or not at all. So a count that differs is refused, never adapted to.
"""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, TopicAlreadyExistsError, for_code

from sluicegate_schemas.topics import SETTINGS_ALL, TOPICS, Topic

from .settings import Settings

log = logging.getLogger(__name__)
RETRY_S: Final = 1.0


class TopicsError(RuntimeError):
    """The topics are not as they must be; the message says what to do."""


class TopicsMissingError(RuntimeError):
    """Topics that others make are not there yet."""


def partitions_of(topic: Topic, partitions: int) -> int:
    """How many partitions ``topic`` has where those by account have ``partitions``."""
    return 1 if topic.partitions == "one" else partitions


async def wait_for_topics(settings: Settings, topics: Collection[Topic] = TOPICS, *, create: bool = True) -> None:
    """``ensure_topics``, as soon as the broker can be reached: who starts before the broker waits for it.

    Without ``create`` it waits for the topics too: their makers are others, who may have started later.
    Raises TopicsError as ``ensure_topics`` does.
    """
    said = None
    while True:
        try:
            await ensure_topics(settings, topics, create=create)
        except (KafkaConnectionError, TopicsMissingError) as error:
            waits_for = (
                str(error)
                if isinstance(error, TopicsMissingError)
                else f"no broker at {settings.bootstrap_servers} (SLUICEGATE_BOOTSTRAP_SERVERS)"
            )
            if waits_for != said:
                log.warning("%s; waiting", waits_for)
                said = waits_for
            await asyncio.sleep(RETRY_S)
        else:
            return


async def ensure_topics(settings: Settings, topics: Collection[Topic] = TOPICS, *, create: bool = True) -> None:
    """Creates those of ``topics`` that are missing and checks the partition count of all.

    Raises TopicsError for a count that differs or a topic that can't be created, TopicsMissingError without ``create``
    where one is missing, and KafkaConnectionError without a broker.
    """
    admin = AIOKafkaAdminClient(**settings.brokers.options())
    await admin.start()
    try:
        existing = await admin.list_topics()
        missing = [topic for topic in topics if settings.topic(topic.name) not in existing]
        if missing and not create:
            names_missing = ", ".join(settings.topic(topic.name) for topic in missing)
            raise TopicsMissingError(f"the workers have not made {names_missing} yet, or it may not be read")
        if missing:
            await _create(admin, settings, missing)
        names = {settings.topic(topic.name): topic for topic in topics}
        for found in await admin.describe_topics(sorted(names)):
            topic = names[found["topic"]]
            count, wanted = len(found["partitions"]), partitions_of(topic, settings.partitions)
            if count and topic.partitions != "free" and count != wanted:
                raise TopicsError(
                    f"the topic {found['topic']} has {count} partitions, and this worker is set to {wanted} "
                    "(SLUICEGATE_PARTITIONS). An account's home is computed from that number, so it must not change "
                    "under a running system. Set the variable back; to grow, start a new generation of topics under "
                    "another SLUICEGATE_TOPIC_PREFIX. Nothing was changed."
                )
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, settings: Settings, topics: list[Topic]) -> None:
    wanted = [
        NewTopic(
            settings.topic(topic.name),
            partitions_of(topic, settings.partitions),
            settings.replication,
            topic_configs={**SETTINGS_ALL, **topic.settings},
        )
        for topic in topics
    ]
    try:
        response = await admin.create_topics(wanted)
    except TopicAlreadyExistsError:
        return
    for name, code, *rest in response.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise TopicsError(f"the topic {name} could not be created: {for_code(code).__name__} {rest}")
