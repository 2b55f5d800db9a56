"""How long rollup cells stay open, and what becomes of records that hold no usage."""

import pytest

from streams.domain.settings import DomainSettings
from tests.domain_world import NOW_MS, World, small_world, usage


def test_cells_leave_when_they_are_old_and_the_sink_holds_them_and_late_events_make_another_chunk():
    world = small_world("pro")
    world.send(usage("search.web"))
    end = world.state_end
    world.machine.cells_durable_until(end - 1)
    later = NOW_MS + 3 * 3_600_000
    world.pass_time(later)
    assert len(world.cells) == 1
    world.machine.cells_durable_until(end)
    world.pass_time(later + 60_000)
    assert world.cells == {}
    for _ in range(2):
        world.send(usage("search.web"))
    assert [(key[4], cell.events) for key, cell in world.cells.items()] == [(1, 2)]
    assert world.used("account", "org_a") == 30_000_000


def test_a_cell_that_changed_since_the_sink_took_it_stays():
    world = small_world("pro")
    world.send(usage("search.web"))
    world.machine.cells_durable_until(world.state_end)
    later = NOW_MS + 3 * 3_600_000
    world.send(usage("search.web"), at=later - 90_000)
    world.pass_time(later)
    assert len(world.cells) == 1


def test_recovered_cells_leave_only_after_the_sink_holds_what_was_written_since():
    world = small_world("pro")
    world.send(usage("search.web"))
    world.take_over()
    later = NOW_MS + 3 * 3_600_000
    world.machine.cells_durable_until(world.state_end - 1)
    world.pass_time(later)
    assert len(world.cells) == 1
    world.machine.cells_durable_until(world.state_end)
    world.pass_time(later + 60_000)
    assert world.cells == {}


def test_a_tick_only_moves_time():
    world = small_world("pro")
    world.append(b"\x91\x03", at=NOW_MS + 5_000)
    assert world.machine.log_time_ms == NOW_MS + 5_000
    assert world.machine.totals.counted == world.machine.totals.rejected == 0


def test_a_row_of_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="newer worker"):
        World().machine.restore(b"!|x", b"\x90")


def test_usage_stops_early_when_many_rows_changed():
    world = small_world("pro", settings=DomainSettings(changed_rows_max=5))
    records = [(n, NOW_MS, None, world.envelope(usage(f"op{n}.get"))) for n in range(10)]
    assert world.machine.apply_usage(records) < 10
    assert world.machine.changed_rows >= 5
