"""Operators' Kafka in tests: a log of commands, and a worker that obeys at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sluicegate.operator.balances import place_of
from sluicegate.operator.commands import Outcome, outcome_of
from sluicegate.operator.decisions import Found
from sluicegate.operator.doctor import Diagnosis, Select
from sluicegate.operator.doctor.history import check_clickhouse
from sluicegate.operator.earlier import Earlier
from sluicegate.operator.explain import Explanation
from sluicegate.operator.groups import GroupLag, PartitionLag, Topology
from sluicegate.operator.log_page import Page
from sluicegate.operator.organizations import Put
from sluicegate.operator.own_values import PendingError
from sluicegate.operator.plans import catalogue_to_publish, commands_to_publish
from sluicegate.operator.publish import Published
from sluicegate.operator.send import Sent
from sluicegate.operator.submit import Make, submit
from sluicegate.operator.tailed import Tailed, TailedRecord
from sluicegate_schemas.accounts import AnyCommand, KeyPut, OrganizationPut
from sluicegate_schemas.catalogue import Catalogue, CatalogueRecord
from sluicegate_schemas.outputs import Balance, Position, TrailEntry
from tests.command_line import reject_with
from tests.gating import CATALOGUE, NOW, NOW_MS, TopicRecord, key_record, organization_record


class FakeDesk:
    """A log of commands and a worker that obeys at once, unless ``refuses`` or ``is_silent``."""

    def __init__(self, take: Callable[[TopicRecord], None]) -> None:
        self.log: list[AnyCommand] = []
        self.refuses: set[str] = set()
        self.is_silent = False
        self.meanwhile: Callable[[], None] | None = None
        """What happens between the making of a command and its sending."""
        self._unanswered: list[AnyCommand] = []
        self._conflicts: set[int] = set()
        self.failure: Exception | None = None
        first = CatalogueRecord(catalogue=CATALOGUE, published_at=NOW, published_by="ada")
        self.published: dict[int, CatalogueRecord] = {CATALOGUE.version: first}
        self.tailed: dict[str, list[TailedRecord]] = {}
        self.balances: list[Balance] = []
        self.asked_about: list[set[str] | None] = []
        self._take = take

    async def submit(
        self, make: Make, *, account_id: str, command_id: str, now: datetime, wait_s: float
    ) -> tuple[AnyCommand, Outcome]:
        self._fail()
        return await submit(_DeskLog(self, account_id, command_id), make, now=now, wait_s=wait_s)

    def append(self, command: AnyCommand) -> Sent:
        """A command comes into the log, of this process or another; what becomes of it."""
        if isinstance(command, OrganizationPut) and command.based_on is not None:
            puts = [put for put in self._puts(len(self.log)) if put.command.about == command.about]
            in_force = [put.position.offset for put in puts if put.acted is not False]
            if in_force[-1:] != [command.based_on]:
                self._conflicts.add(len(self.log))
        self.log.append(command)
        if self.is_silent:
            self._unanswered.append(command)
        elif command.kind not in self.refuses and len(self.log) - 1 not in self._conflicts:
            self._obey(command)
        return self._sent(Earlier(command, self._position(len(self.log) - 1), NOW_MS))

    def _puts(self, end: int) -> list[Put]:
        """All that put an organization below ``end``."""
        return [
            Put(command, self._position(offset), NOW_MS, self._acted(offset))
            for offset, command in enumerate(self.log[:end])
            if isinstance(command, OrganizationPut)
        ]

    def _acted(self, offset: int) -> bool | None:
        return None if self.log[offset] in self.unanswered() else offset not in self._conflicts

    async def outcome(self, account_id: str, command_id: str) -> Outcome | None:
        self._fail()
        earlier = self.find(account_id, command_id)
        return None if earlier is None else self.outcome_of(earlier)

    def unanswered(self) -> list[AnyCommand]:
        """What waits for a worker; one that speaks again has answered all."""
        return self._unanswered if self.is_silent else []

    async def own_values(self, account_id: str) -> Mapping[str, Put]:
        self._fail()
        puts = [put for put in self._puts(len(self.log)) if put.acted]
        return {put.command.organization_id: put for put in puts if put.command.account_id == account_id}

    async def standing_put(self, account_id: str, organization_id: str, *, now: datetime, wait_s: float) -> Put | None:
        if any(
            isinstance(one, OrganizationPut) and one.organization_id == organization_id for one in self.unanswered()
        ):
            raise PendingError(organization_id)
        return (await self.own_values(account_id)).get(organization_id)

    async def puts_before(self, account_id: str, organization_id: str, offset: int) -> Sequence[Put]:
        self._fail()
        of = account_id, organization_id
        return [put for put in self._puts(offset) if (put.command.account_id, put.command.organization_id) == of]

    async def catalogues(self) -> Mapping[int, CatalogueRecord]:
        self._fail()
        return self.published

    async def publish(self, catalogue: Catalogue, *, now: datetime, by: str, lead: timedelta) -> Published:
        self._fail()
        known = {version: one.catalogue for version, one in self.published.items()}
        record = catalogue_to_publish(known, catalogue, now=now, lead=lead, by=by)
        if record is not None:
            self.published[catalogue.version] = record
        return Published(None if record is None else catalogue.version, 0, 0)

    async def trail(self, *, limit: int, account_id: str | None, before: Mapping[int, int] | None) -> Page[TrailEntry]:
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

    async def publish_accounts(self, commands: Sequence[AnyCommand], *, now: datetime) -> Published:
        self._fail()
        known = {command.command_id for command in self.log}
        new = commands_to_publish(known, commands)
        self.log += new
        return Published(None, len(new), len(commands) - len(new))

    async def tail(
        self, what: Tailed, *, limit: int, about: Collection[str] | None, before: Mapping[int, int] | None
    ) -> Page[TailedRecord]:
        self._fail()
        self.asked_about.append(None if about is None else set(about))
        found = [one for one in self.tailed.get(what, []) if before is None or one.offset < before.get(0, 0)]
        taken = sorted(found, key=lambda one: one.offset, reverse=True)[:limit]
        return Page(taken, {0: taken[-1].offset} if len(found) > limit else {})

    async def kept_balances(self, about: Collection[str], *, account_id: str, month: str | None) -> Sequence[Balance]:
        self._fail()
        found = [one for one in self.balances if one.id in about and month in (None, one.month)]
        return sorted(found, key=place_of)

    async def diagnose(self, *, now: datetime, partitions: int, clickhouse_url: str, select: Select) -> Diagnosis:
        self._fail()
        findings = await check_clickhouse(clickhouse_url, select)
        return Diagnosis(healthy=all(one.status != "error" for one in findings), findings=tuple(findings))

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def find(self, account_id: str, command_id: str) -> Earlier | None:
        found = None
        for offset, command in enumerate(self.log):
            if (command.account_id, command.command_id) == (account_id, command_id):
                found = Earlier(command, self._position(offset), NOW_MS)
                if offset not in self._conflicts:
                    break
        return found

    def outcome_of(self, earlier: Earlier) -> Outcome:
        return outcome_of(earlier.command, self._sent(earlier))

    def _sent(self, earlier: Earlier) -> Sent:
        command, position = earlier.command, earlier.position
        if self.is_silent:
            return Sent("unconfirmed", position)
        if command.kind in self.refuses:
            return Sent("refused", position, reject=reject_with("is not possible"))
        if position.offset in self._conflicts:
            reject = reject_with("is not the put that is in force", "based_on", "conflict")
            return Sent("refused", position, reject=reject)
        return Sent("applied", position, trail=entry_of(command, position))

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


class _DeskLog:
    """The commands of one account and id in a desk's log."""

    def __init__(self, desk: FakeDesk, account_id: str, command_id: str) -> None:
        self._desk = desk
        self._names = account_id, command_id

    async def find(self, *, since: datetime | None = None, wait_s: float = 0) -> Earlier | None:
        return self._desk.find(*self._names)

    async def send(self, command: AnyCommand) -> Sent:
        await asyncio.sleep(0)  # as a broker takes its time
        if self._desk.meanwhile is not None:
            self._desk.meanwhile()
        return self._desk.append(command)

    async def outcome_of(self, earlier: Earlier) -> Outcome:
        return self._desk.outcome_of(earlier)


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
