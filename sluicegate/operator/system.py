"""Where a running Sluicegate is."""

from dataclasses import dataclass

from sluicegate_schemas.topics import Topic

from ..brokers import Brokers


@dataclass(frozen=True, slots=True)
class System:
    """Its Kafka and the names of its topics."""

    brokers: Brokers
    topic_prefix: str

    def topic(self, topic: Topic) -> str:
        """Its full name."""
        return self.topic_prefix + topic.name
