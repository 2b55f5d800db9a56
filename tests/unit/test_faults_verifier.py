"""The verifier of the rotation sees what is lost, doubled, altered or misplaced, and forgives what is promised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sluicegate_schemas.envelope import WireEnvelope, WireEvent
from sluicegate_schemas.files import load_accounts, load_catalogue
from sluicegate_schemas.partitioning import partition_of
from stack.expected import Place, tenants_of
from stack.node_log import Published
from tests.faults.differences import Amounts, Difference, Found, HourlyExpectation, differences
from tests.faults.journal import SERIAL, Handed, Line, Stand, crc_of
from tests.faults.promises import (
    YOUNG_MS_MAX,
    Logged,
    Losses,
    Run,
    durable_differences,
    node_differences,
)

ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000
NOON_MS = 1_785_000_000_000 // HOUR_MS * HOUR_MS
HOME = partition_of("org_heron", 8)


def event(number: int = 1, *, ts_ms: int = NOON_MS, named: bool = True) -> WireEvent:
    labels = {SERIAL: f"p-{number}"} if named else None
    return WireEvent(None, "org_heron", "key_heron_1", "search.web", ts_ms - 5, ts_ms, 5, 200, labels=labels)


def envelope(sequence: int, *events: WireEvent, producer: str = "p") -> WireEnvelope:
    return WireEnvelope(1, producer, 1, sequence, NOON_MS, "n", list(events))


def expectation() -> HourlyExpectation:
    """Two events in one hour and one in the next, ten credits each."""
    catalogue = load_catalogue((ROOT / "catalogue/default.toml").read_text("utf-8"))
    accounts = load_accounts((ROOT / "examples/accounts.toml").read_text("utf-8"))
    expected = HourlyExpectation([catalogue], tenants_of(accounts), 8)
    late = event(3, ts_ms=NOON_MS + HOUR_MS)
    expected.add_envelope(envelope(1, event(1), event(2), late), Place(HOME, 0, NOON_MS + HOUR_MS + 10))
    return expected


def shown() -> Found:
    """What agrees with ``expectation``."""
    month = "2026-07"
    micro = 30_000_000
    return Found(
        hourly={
            ("org_heron", NOON_MS): Amounts(2, 2, 20_000_000),
            ("org_heron", NOON_MS + HOUR_MS): Amounts(1, 1, 10_000_000),
        },
        used_micro={
            ("account", "org_heron", month): micro,
            ("organization", "org_heron", month): micro,
            ("key", "key_heron_1", month): micro,
            ("label", "org_heron", month): micro,
        },
        groups_micro={("org_heron", month, "search"): micro},
        requests={("org_heron", month, ""): 3},
        decisions={"d1"},
        decisions_shown={"d1"},
    )


def test_what_agrees_has_no_difference() -> None:
    assert differences(expectation(), shown()) == []


def test_an_event_in_the_wrong_hour_is_shown_by_organization_and_hour() -> None:
    found = shown()
    found.hourly["org_heron", NOON_MS] = Amounts(1, 2, 20_000_000)
    found.hourly["org_heron", NOON_MS + HOUR_MS] = Amounts(2, 1, 10_000_000)
    named = [(one.figure, one.where, one.expected, one.found) for one in differences(expectation(), found)]
    assert named == [("events", "org_heron", 2, 1), ("events", "org_heron", 1, 2)]
    assert len({one.hour for one in differences(expectation(), found)}) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.hourly["org_heron", NOON_MS].__setattr__("credits_micro", 20_000_001),
        lambda found: found.hourly.__setitem__(("org_wren", NOON_MS), Amounts(1, 0, 0)),
        lambda found: found.used_micro.__setitem__(("key", "key_heron_1", "2026-07"), 29_999_999),
        lambda found: found.used_micro.pop(("account", "org_heron", "2026-07")),
        lambda found: found.groups_micro.__setitem__(("org_heron", "2026-07", "compute"), 1),
        lambda found: found.requests.clear(),
        lambda found: found.rejects.__setitem__("unknown_key", 1),
        lambda found: found.__setattr__("decisions_shown", set()),
    ],
)
def test_any_figure_that_is_off_by_one_is_a_difference(spoil: object) -> None:
    found = shown()
    spoil(found)  # type: ignore[operator]  # a function that alters one figure
    assert len(differences(expectation(), found)) == 1


def of_publisher(run: Run, lines: list[Line], *logged: WireEnvelope) -> tuple[list[Difference], Losses]:
    log, losses = Logged(), Losses()
    for one in logged:
        log.add(one, HOME)
    return list(durable_differences([(run, lines)], log, losses)), losses


def handed(number: int, at_ms: int) -> Handed:
    return Handed(f"p-{number}", at_ms, crc_of(event(number)))


CLOSED = Stand(9, 1, 0, 0, 0, closed=True)
KILLED = Run(Path("p"), killed_at_ms=100_000)


def test_an_event_that_sigterm_lost_is_a_difference() -> None:
    found, _ = of_publisher(Run(Path("p")), [handed(1, 1), handed(2, 2), CLOSED], envelope(1, event(1)))
    assert [(one.where, one.expected, one.found) for one in found] == [("p-2", 1, 0)]


def test_a_kill_may_take_young_events_and_no_older_ones() -> None:
    old, young = handed(1, 100_000 - YOUNG_MS_MAX - 1), handed(2, 100_000 - YOUNG_MS_MAX)
    found, losses = of_publisher(KILLED, [old, young])
    assert [one.where for one in found] == ["p-1"]
    assert (losses.durable_events, losses.durable_age_ms_max) == (1, YOUNG_MS_MAX)


def test_time_in_which_a_publisher_was_stopped_makes_its_events_no_older() -> None:
    run = Run(Path("p"), killed_at_ms=100_000, pauses_ms=[(80_000, 99_000)])
    found, losses = of_publisher(run, [handed(1, 79_000)])
    assert found == []
    assert losses.durable_age_ms_max == 2_000


def test_an_event_in_two_envelopes_is_a_difference_and_a_repeated_envelope_is_none() -> None:
    lines: list[Line] = [handed(1, 1), CLOSED]
    run = Run(Path("p"))
    assert of_publisher(run, lines, envelope(1, event(1)), envelope(1, event(1)))[0] == []
    assert len(of_publisher(run, lines, envelope(1, event(1)), envelope(2, event(1)))[0]) == 1


def test_an_altered_event_is_a_difference_on_both_sides() -> None:
    found, _ = of_publisher(Run(Path("p")), [handed(1, 1), CLOSED], envelope(1, event(1, ts_ms=NOON_MS + 1)))
    assert len(found) == 2


def test_a_publisher_that_ends_otherwise_than_by_closing_is_a_difference() -> None:
    assert len(of_publisher(Run(Path("p")), [])[0]) == 1


def of_node(*logged: WireEnvelope, was_killed: bool) -> list[Difference]:
    """A node that sealed two envelopes, and what the log has."""
    log = Logged()
    for one in logged:
        log.add(one, HOME)
    lines = [Published("p", 1, sequence, 0, event(named=False)) for sequence in (1, 2)]
    return list(node_differences([(was_killed, lines)], log, 8, Losses()))


def test_a_killed_node_may_lose_its_last_envelope_and_none_before_it() -> None:
    first, second = (envelope(number, event(named=False)) for number in (1, 2))
    assert of_node(first, second, was_killed=False) == []
    assert of_node(first, was_killed=True) == []
    assert len(of_node(second, was_killed=True)) == 1
    assert len(of_node(first, was_killed=False)) == 1
    assert len(of_node(first, second, envelope(3, event(named=False)), was_killed=True)) == 1


def test_the_verifier_shares_no_code_with_workers_and_sink() -> None:
    check = (
        "import sys, tests.faults.verifier\n"
        "shared = [name for name in sys.modules if name.split('.')[0] in ('streams', 'clickhouse', 'faust', 'mode')]\n"
        "assert not shared, shared\n"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
