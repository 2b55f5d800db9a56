"""Who may open how many streams, and how often."""

from contextlib import ExitStack

import pytest

from api import live
from api.problems import ProblemError


class Openings:
    """A hub whose clock is told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.hub = live.Hub(lambda: self.now_s)
        self.held = ExitStack()

    def hold(self, organization_id: str) -> int:
        """Opens a stream that stays; its status."""
        try:
            self.held.enter_context(self.hub.listening(organization_id))
        except ProblemError as error:
            return error.status
        return 200

    def pass_by(self, organization_id: str) -> int:
        """Opens one that ends at once."""
        try:
            with self.hub.listening(organization_id):
                return 200
        except ProblemError as error:
            return error.status


def test_an_organization_that_opens_streams_again_and_again_is_held_to_its_pace_and_no_other_one_is() -> None:
    openings = Openings()
    assert [openings.pass_by("org_a") for _ in range(live.OPENINGS_MAX + 2)] == [200] * live.OPENINGS_MAX + [429] * 2
    assert openings.pass_by("org_b") == 200
    openings.now_s += live.OPENING_S
    assert [openings.pass_by("org_a"), openings.pass_by("org_a")] == [200, 429]
    openings.now_s += live.OPENING_S * live.OPENINGS_MAX
    assert [openings.pass_by("org_a") for _ in range(live.OPENINGS_MAX + 1)] == [200] * live.OPENINGS_MAX + [429]


def test_a_few_organizations_do_not_take_all_places() -> None:
    openings = Openings()
    with openings.held:
        for number in range(live.LISTENERS_MAX // 2):
            assert openings.hold(f"org_{number // live.OF_ORGANIZATION_MAX}") == 200
        statuses = [openings.hold("org_late") for _ in range(live.OF_ORGANIZATION_CROWDED + 1)]
        assert statuses == [200] * live.OF_ORGANIZATION_CROWDED + [429]


def test_what_is_kept_of_openings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEPT_MAX", 10)
    openings = Openings()
    assert {openings.pass_by(f"org_{number}") for number in range(100)} == {200}
    assert len(openings.hub._opened) == 10
