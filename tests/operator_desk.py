"""Operators' Kafka in tests: a log of commands, and a worker that obeys at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from sluicegate.operator.commands import Outcome, outcome_of
from sluicegate.operator.decisions import Found
from sluicegate.operator.earlier import Earlier
from sluicegate.operator.explain import Explanation
from sluicegate.operator.groups import GroupLag, PartitionLag, Topology
from sluicegate.operator.own_values import PendingError
from sluicegate.operator.plans import catalogue_to_publish
from sluicegate.operator.publish import Published
from sluicegate.operator.send import Sent
from sluicegate.operator.submit import Make, Origin, OtherCommandError
from sluicegate.operator.trail import Page
from sluicegate_schemas.accounts import AnyCommand, KeyPut, OrganizationPut
from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.outputs import Position, TrailEntry
from tests.command_line import reject_with
from tests.gating import CATALOGUE, NOW, NOW_MS, TopicRecord, key_record, organization_record


class FakeDesk:
    """A log of commands and a worker that obeys at once, unless ``refuses`` or ``is_silent``."""

    def __init__(self, take: Callable[[TopicRecord], None]) -> None:
        self.log: list[AnyCommand] = []
        self.refuses: set[str] = set()
        self.is_silent = False
        self._unanswered: list[AnyCommand] = []
        self.failure: Exception | None = None
        self.published: dict[int, Catalogue] = {CATALOGUE.version: CATALOGUE}
        self._take = take

    async def submit(
        self, make: Make, *, account_id: str, command_id: str, now: datetime, wait_s: float
    ) -> tuple[AnyCommand, Outcome]:
        self._fail()
        earlier = self._find(account_id, command_id)
        if earlier is not None:
            if await make(Origin(earlier.command.issued_at, earlier)) != earlier.command:
                raise OtherCommandError("that id is another command's")
            return earlier.command, self._outcome(earlier)
        command = await make(Origin(now, None))
        await asyncio.sleep(0)  # as a broker takes its time
        self.log.append(command)
        if self.is_silent:
            self._unanswered.append(command)
        elif command.kind not in self.refuses:
            self._obey(command)
        return command, self._outcome(Earlier(command, self._position(len(self.log) - 1), NOW_MS))

    async def outcome(self, account_id: str, command_id: str) -> Outcome | None:
        self._fail()
        earlier = self._find(account_id, command_id)
        return None if earlier is None else self._outcome(earlier)

    def unanswered(self) -> list[AnyCommand]:
        """What waits for a worker; one that speaks again has answered all."""
        return self._unanswered if self.is_silent else []

    async def own_values(self, account_id: str) -> Mapping[str, OrganizationPut]:
        self._fail()
        puts = [one for one in self.log if isinstance(one, OrganizationPut) and one not in self.unanswered()]
        return {one.organization_id: one for one in puts if one.account_id == account_id}

    async def standing_put(
        self, account_id: str, organization_id: str, *, now: datetime, wait_s: float
    ) -> OrganizationPut | None:
        if any(
            isinstance(one, OrganizationPut) and one.organization_id == organization_id for one in self.unanswered()
        ):
            raise PendingError(organization_id)
        return (await self.own_values(account_id)).get(organization_id)

    async def puts_before(self, account_id: str, organization_id: str, offset: int) -> Sequence[OrganizationPut]:
        self._fail()
        puts = [one for one in self.log[:offset] if isinstance(one, OrganizationPut)]
        return [one for one in puts if (one.account_id, one.organization_id) == (account_id, organization_id)]

    async def catalogues(self) -> Mapping[int, Catalogue]:
        self._fail()
        return self.published

    async def publish(self, catalogue: Catalogue, *, now: datetime, by: str, lead: timedelta) -> Published:
        self._fail()
        record = catalogue_to_publish(self.published, catalogue, now=now, lead=lead, by=by)
        if record is not None:
            self.published[catalogue.version] = catalogue
        return Published(None if record is None else catalogue.version, 0, 0)

    async def trail(self, *, limit: int, account_id: str | None, before: Mapping[int, int] | None) -> Page:
        self._fail()
        end = len(self.log) if before is None else min(before.get(0, 0), len(self.log))
        found = [
            (offset, entry_of(command, self._position(offset)))
            for offset, command in enumerate(self.log[:end])
            if account_id in (None, command.account_id)
        ][::-1]
        taken = found[:limit]
        goes_on = {0: taken[-1][0]} if len(found) > limit else {}
        return Page([entry for _, entry in taken], goes_on)

    async def explain(self, found: Found, *, now: datetime, last: int) -> Explanation:
        self._fail()
        where, stands = found.where, not found.superseded
        return Explanation(
            decision=found.decision, found=where, stands=stands, event=None, before=(), command=None, notes=()
        )

    async def topology(self) -> Topology:
        self._fail()
        partition = PartitionLag(partition=0, owner="worker@127.0.0.1", end=9, committed=7, lag_records=2)
        lag = GroupLag(group="g", topic="t", state="Stable", members=1, lag_records=2, partitions=(partition,))
        return Topology(workers=lag, sink=lag)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _find(self, account_id: str, command_id: str) -> Earlier | None:
        for offset, command in enumerate(self.log):
            if (command.account_id, command.command_id) == (account_id, command_id):
                return Earlier(command, self._position(offset), NOW_MS)
        return None

    def _outcome(self, earlier: Earlier) -> Outcome:
        command = earlier.command
        if self.is_silent:
            return outcome_of(command, Sent("unconfirmed", earlier.position))
        if command.kind in self.refuses:
            return outcome_of(command, Sent("refused", earlier.position, reject=reject_with("is not possible")))
        return outcome_of(command, Sent("applied", earlier.position, trail=entry_of(command, earlier.position)))

    def _position(self, offset: int) -> Position:
        return Position(topic="accounts", partition=0, offset=offset)

    def _obey(self, command: AnyCommand) -> None:
        rank = (2, len(self.log))
        if isinstance(command, OrganizationPut):
            self._take(
                organization_record(
                    command.organization_id, tier=command.tier, account_id=command.account_id, rank=rank
                )
            )
        elif isinstance(command, KeyPut):
            _, _, value = key_record(name=command.api_key_id, organization=command.organization_id, rank=rank)
            fields = json.loads(value or b"") | {"key_sha256": command.key_sha256}
            self._take(("entitlements", f"key:{command.key_sha256}".encode(), json.dumps(fields).encode()))


def entry_of(command: AnyCommand, position: Position) -> TrailEntry:
    return TrailEntry(
        command_id=command.command_id,
        command=command.kind,
        account_id=command.account_id,
        organization_id=command.about,
        subject="subject",
        issued_by=command.issued_by,
        issued_at=command.issued_at,
        reason=command.reason,
        before=None,
        after={"tier": "pro"},
        applied_at=NOW,
        source=position,
    )
