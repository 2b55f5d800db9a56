"""Says again what an older record hides: compaction keeps the last record of a key, whoever wrote it.

A former owner of the partition that was paused may bring its outputs late. Readers that follow drop them by their
sequence; a reader that starts after the compaction would see them alone.
"""

from collections.abc import Iterable

from sluicegate_schemas import topics
from sluicegate_schemas.wire_checks import Malformed
from sluicegate_schemas.wire_decision import decode_decision

from .balances import Balances
from .entitlements import Entitlements
from .policy import Moment, Policy

ForeignRecord = tuple[str, bytes, bytes]
"""(topic without prefix, key, value) of a record on one of the partition's compacted outputs that its owner did not
write."""


class Again:
    """Puts the truth of this partition's state behind such records."""

    def __init__(self, entitlements: Entitlements, balances: Balances, policy: Policy) -> None:
        self._entitlements = entitlements
        self._balances = balances
        self._policy = policy

    def say(self, records: Iterable[ForeignRecord], moment: Moment) -> None:
        """Publishes what the state says under the records' keys; nothing under those that it does not know."""
        balances = set()
        for topic, key, value in records:
            name = key.decode("utf-8", "replace")
            if topic == topics.DECISIONS.name:
                self._decision(name, value, moment)
            elif topic == topics.ENTITLEMENTS.name:
                self._entitlements.say_again(name)
            elif topic == topics.BALANCES.name:
                balances.add(name)
        if balances:
            self._balances.say_again(balances)

    def _decision(self, record_key: str, value: bytes, moment: Moment) -> None:
        try:
            stranger = decode_decision(value)
        except Malformed:
            return  # no worker wrote it, and readers leave it out
        self._policy.say_again(record_key, stranger, moment)
