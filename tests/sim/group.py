"""The group coordinator: members, sessions, generations, rebalances, committed offsets (Kafka's classic protocol)."""

import asyncio
from typing import Any, Final

from aiokafka.errors import IllegalGenerationError, KafkaConnectionError, RebalanceInProgressError, UnknownMemberIdError

Tp = tuple[str, int]
REBALANCE_TIMEOUT_S: Final = 10.0


class Member:
    """One member as the coordinator sees it."""

    def __init__(self, name: str, topics: tuple[str, ...], session_s: float) -> None:
        self.name = name
        self.topics = topics
        self.session_s = session_s
        self.heard_at = 0.0
        self.assigned: list[Tp] = []
        self.joining: asyncio.Future[tuple[str, int]] | None = None
        self.syncing: asyncio.Future[list[Tp]] | None = None


class Group:
    """One group. Its requests raise BrokerResponseError as the broker would answer."""

    def __init__(self, name: str, loop: Any, partitions_of: Any, note: Any) -> None:
        self.name = name
        self.generation = 0
        self.committed: dict[Tp, int] = {}
        self.members: dict[str, Member] = {}
        self._loop = loop
        self._partitions_of = partitions_of
        self._note = note
        self._named = 0
        self._state = "empty"
        self._deadline: asyncio.TimerHandle | None = None
        self.is_away = False
        """The broker is down: no session ends meanwhile."""

    # Requests.

    def join(
        self, member_id: str, client: str, topics: tuple[str, ...], session_s: float
    ) -> "asyncio.Future[tuple[str, int]]":
        """(member id, generation) once all members have joined or been dropped. An empty id asks for a new one."""
        if member_id and member_id not in self.members:
            raise UnknownMemberIdError
        if not member_id:
            self._named += 1
            member_id = f"{client}-{self._named}"
            self.members[member_id] = Member(member_id, topics, session_s)
            self._watch(self.members[member_id])
        member = self.members[member_id]
        member.heard_at = self._loop.time()
        member.joining = answer = self._loop.create_future()
        if self._state != "joining":
            self._begin_rebalance()
        self._complete_join_if_all_are_there()
        return answer

    def sync(self, member_id: str, generation: int) -> "asyncio.Future[list[Tp]]":
        """The member's partitions, once the leader has handed in the assignment."""
        member = self._member(member_id, generation)
        if self._state == "joining":
            raise RebalanceInProgressError
        member.syncing = self._loop.create_future()
        answer = member.syncing
        if member_id == next(iter(self.members)):
            self._assign()
            self._state = "stable"
        if self._state == "stable":
            for other in self.members.values():
                if other.syncing is not None:
                    other.syncing.set_result(list(other.assigned))
                    other.syncing = None
        return answer

    def heartbeat(self, member_id: str, generation: int) -> None:
        """The member lives."""
        self._member(member_id, generation)
        if self._state == "joining":
            raise RebalanceInProgressError

    def leave(self, member_id: str) -> None:
        """The member goes at once."""
        if member_id in self.members:
            self._drop(self.members[member_id], "left")

    def commit(self, member_id: str, generation: int, offsets: dict[Tp, int]) -> None:
        """The group's positions."""
        self._member(member_id, generation)
        if self._state == "syncing":
            raise RebalanceInProgressError
        self.committed |= offsets

    def _member(self, member_id: str, generation: int) -> Member:
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMemberIdError
        if generation != self.generation:
            raise IllegalGenerationError
        member.heard_at = self._loop.time()
        return member

    # Faults.

    def rebalance(self) -> None:
        """Somebody unseen makes all join again."""
        if self._state == "stable":
            self._begin_rebalance()

    def forget(self) -> None:
        """The group is deleted: offsets, members and generations are gone."""
        self.generation = 0
        self.committed.clear()
        for member in list(self.members.values()):
            self._refuse(member, UnknownMemberIdError())
        self.members.clear()
        self._state = "empty"
        self._cancel_deadline()

    def broker_died(self) -> None:
        """Requests that wait are lost; who was a member still is when the broker comes back."""
        self.is_away = True
        self._cancel_deadline()
        for member in self.members.values():
            self._refuse(member, KafkaConnectionError())

    def broker_came_back(self) -> None:
        """All sessions begin anew."""
        self.is_away = False
        for member in self.members.values():
            member.heard_at = self._loop.time()
        if self._state != "stable" and self.members:
            self._begin_rebalance()

    # Rebalances.

    def _begin_rebalance(self) -> None:
        self._state = "joining"
        for member in self.members.values():
            if member.syncing is not None:
                member.syncing.set_exception(RebalanceInProgressError())
                member.syncing = None
        self._cancel_deadline()
        self._deadline = self._loop.call_later(REBALANCE_TIMEOUT_S, self._drop_who_did_not_join)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _drop_who_did_not_join(self) -> None:
        for member in list(self.members.values()):
            if member.joining is None:
                del self.members[member.name]
        self._complete_join_if_all_are_there()

    def _complete_join_if_all_are_there(self) -> None:
        if self._state != "joining" or any(member.joining is None for member in self.members.values()):
            return
        self._cancel_deadline()
        if not self.members:
            self._state = "empty"
            return
        self.generation += 1
        self._state = "syncing"
        self._note(f"generation {self.generation} of {len(self.members)}")
        now = self._loop.time()
        for member in self.members.values():
            assert member.joining is not None
            member.heard_at = now
            member.joining.set_result((member.name, self.generation))
            member.joining = None

    def _assign(self) -> None:
        """Balanced, and a partition stays where it is if it can (as the sticky assignor)."""
        members = list(self.members.values())
        topics = dict.fromkeys(topic for member in members for topic in member.topics)
        free = [(topic, number) for topic in topics for number in range(self._partitions_of(topic))]
        least, more = divmod(len(free), len(members))
        for member in sorted(members, key=lambda member: -len(member.assigned)):
            room = least + (more > 0)
            kept = [tp for tp in member.assigned if tp in free][:room]
            more -= len(kept) > least
            member.assigned = kept
            free = [tp for tp in free if tp not in kept]
        for tp in free:
            min(members, key=lambda member: len(member.assigned)).assigned.append(tp)

    # Sessions.

    def _watch(self, member: Member) -> None:
        member.heard_at = self._loop.time()
        self._loop.call_at(member.heard_at + member.session_s, self._look, member)

    def _look(self, member: Member) -> None:
        if self.members.get(member.name) is not member:
            return
        now = self._loop.time()
        if self.is_away or member.joining is not None:
            member.heard_at = now
        if now >= member.heard_at + member.session_s:
            self._drop(member, "session over")
        else:
            self._loop.call_at(member.heard_at + member.session_s, self._look, member)

    def _drop(self, member: Member, why: str) -> None:
        self._note(f"{member.name}: {why}")
        del self.members[member.name]
        self._refuse(member, UnknownMemberIdError())
        if self._state != "joining" and self.members:
            self._begin_rebalance()
        self._complete_join_if_all_are_there()
        if not self.members:
            self._state = "empty"
            self._cancel_deadline()

    def _refuse(self, member: Member, error: Exception) -> None:
        for future in (member.joining, member.syncing):
            if future is not None and not future.done():
                future.set_exception(error)
        member.joining = member.syncing = None
