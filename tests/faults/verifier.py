"""A verifier that shares no code with the workers: reads topics and ClickHouse, and says what is not as it must be.

It goes on where it stopped reading, so that it can look at a system again and again. From the usage log it folds what
everything must come to (``stack.expected``, from the requirements and the schemas alone), and holds that against the
outputs and ClickHouse. The compacted topics must be read before compaction takes anything: a look every few minutes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from sluicegate_schemas import topics
from sluicegate_schemas.accounts import ACCOUNT_COMMAND
from sluicegate_schemas.catalogue import CatalogueRecord
from sluicegate_schemas.envelope import WireEnvelope
from sluicegate_schemas.outputs import Balance, Decision, Reject
from stack.expected import Place, Totals, tenants_of
from stack.topic_log import partitions_of, read_topic
from stack.usage_log import parse_usage
from tests.faults.differences import Amounts, Difference, Found, HourlyExpectation, differences
from tests.faults.promises import Logged

_USAGE_QUERY: Final = """
SELECT org_id, toUnixTimestamp(toStartOfHour(minute)) * 1000, sum(events), sum(requests), sum(credits_micro)
FROM usage_minute FINAL GROUP BY 1, 2 HAVING sum(events) > 0
"""
_DECISIONS_QUERY: Final = "SELECT DISTINCT decision_id FROM decision"


class Verifier:
    """See the module. ``clickhouse`` are the arguments of ``clickhouse_connect.get_client``."""

    def __init__(self, bootstrap: str, prefix: str, clickhouse: dict[str, Any]) -> None:
        self.logged = Logged()
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._clickhouse = clickhouse
        self._positions: dict[str, dict[int, int]] = {}
        self._expected: HourlyExpectation | None = None
        self._rejects: dict[str, str] = {}
        self._balances: dict[tuple[str, str, str], Balance] = {}
        self._decisions: set[str] = set()

    @property
    def totals(self) -> Totals:
        """What the usage log came to when it was read last."""
        return self._expected.totals if self._expected else Totals()

    async def look(self) -> list[Difference]:
        """Reads what is new, and compares everything."""
        expected = self._expected = self._expected or await self._expectation()
        await self._read_usage(expected)
        await self._read_outputs()
        found = await asyncio.to_thread(self._found)
        return differences(expected, found)

    async def _values(self, topic: topics.Topic) -> list[tuple[Place, bytes]]:
        positions = self._positions.setdefault(topic.name, {})
        return [
            (Place(record.partition, record.offset, record.timestamp), record.value)
            async for record in read_topic(self._bootstrap, self._prefix + topic.name, positions)
            if record.value is not None
        ]

    async def _expectation(self) -> HourlyExpectation:
        commands = [ACCOUNT_COMMAND.validate_json(value) for _, value in await self._values(topics.ACCOUNTS)]
        versions = [CatalogueRecord.model_validate_json(value) for _, value in await self._values(topics.CATALOG)]
        partitions = len(await partitions_of(self._bootstrap, [self._prefix + topics.USAGE.name]))
        return HourlyExpectation([one.catalogue for one in versions], tenants_of(commands), partitions)

    async def _read_usage(self, expected: HourlyExpectation) -> None:
        for place, value in await self._values(topics.USAGE):
            usage = parse_usage(value)
            if isinstance(usage, WireEnvelope):
                self.logged.add(usage, place.partition)
            expected.add(usage, place)

    async def _read_outputs(self) -> None:
        for _, value in await self._values(topics.REJECTS):
            reject = Reject.model_validate_json(value)
            if reject.source.topic.removeprefix(self._prefix) == topics.USAGE.name:
                self._rejects[reject.id] = reject.reason
        for _, value in await self._values(topics.BALANCES):
            balance = Balance.model_validate_json(value)
            name = balance.id if balance.label is None else f"{balance.id} {balance.label}"
            place = (balance.kind, name, balance.month)
            if place not in self._balances or _rank(balance) > _rank(self._balances[place]):
                self._balances[place] = balance
        for _, value in await self._values(topics.DECISIONS):
            self._decisions.add(Decision.model_validate_json(value).decision_id)

    def _found(self) -> Found:
        client: Client = clickhouse_connect.get_client(**self._clickhouse)
        try:
            usage = client.query(_USAGE_QUERY).result_rows
            shown = client.query(_DECISIONS_QUERY).result_rows
        finally:
            client.close()
        balances = self._balances.items()
        used: Counter[tuple[str, str, str]] = Counter()
        for (kind, _, month), balance in balances:  # labels that found no room share one: all together
            used[kind, balance.id, month] += balance.used_micro
        return Found(
            hourly={(row[0], int(row[1])): Amounts(*map(int, row[2:])) for row in usage},
            used_micro=dict(used),
            groups_micro={
                (name, month, group): micro
                for (kind, name, month), balance in balances
                if kind == "account"
                for group, micro in balance.breakdown_micro.items()
            },
            requests={
                (name, month, ""): balance.requests
                for (kind, name, month), balance in balances
                if kind == "organization"
            },
            rejects=Counter(self._rejects.values()),
            decisions=self._decisions,
            decisions_shown={str(row[0]) for row in shown},
        )


def _rank(balance: Balance) -> tuple[int, int]:
    return balance.sequence.epoch, balance.sequence.counter
