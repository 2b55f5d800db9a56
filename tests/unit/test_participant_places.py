"""The words that participants make ids of name the record that they come from."""

from typing import ClassVar

import pytest

from streams.domain import participants
from streams.domain.participant import Participant, PartitionContext
from streams.domain.policy import Moment
from streams.domain.pools import Pools
from tests.domain_world import NOW_MS, World, key_put, organization_put, usage


class Judge(Participant):
    """Always has news, and always wants to be woken."""

    words: ClassVar[list[str]] = []

    def __init__(self, context: PartitionContext) -> None:
        super().__init__(context)
        self.has_news, self.next_ms = True, 0

    def judge(self, moment: Moment) -> None:
        self.words.append(moment.word)
        self.has_news = True

    def wake(self, moment: Moment) -> None:
        self.words.append(moment.word)


def test_no_two_records_share_a_word_though_all_come_at_one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(participants, "KINDS", (Pools, Judge))
    monkeypatch.setattr(Judge, "words", [])
    world = World()
    world.obey(organization_put(), key_put(), organization_put(tier="team"))
    world.send(usage())
    world.obey(organization_put(tier="free"))
    world.send(usage())
    world.pass_time(NOW_MS)
    words = Judge.words
    assert len(words) == 2 * 7
    assert sorted(words) == sorted(set(words))
