"""However much is over at once, a flush stays one batch that the broker takes."""

from collections.abc import Callable

import pytest

from sluicegate_schemas.state import DECODE_ROLLUP_CELL
from streams.domain.period import month_index, month_start_ms
from streams.domain.rollup import Cell
from streams.domain.settings import DomainSettings
from streams.domain.tables import COUNT_MAX
from streams.engine.flush import FlushWriter, batch_bytes
from streams.engine.limits import Limits
from tests.domain_world import NOW_MS, World, key_put, organization_put, small_world, usage

SETTINGS = DomainSettings(changed_rows_max=100)
HOUR_MS = 3_600_000


def sizes(world: World, step: Callable[[], None], least: int) -> list[int]:
    """How many rows each flush removes, while ``step`` goes on, until ``least`` are removed."""
    removed: list[int] = []
    for _ in range(200):
        step()
        changes = world.machine.take_changes()
        world.state_end += len(changes) + 1
        world.machine.flushed(1, world.state_end)
        removed.append(sum(payload is None for _, payload in changes))
        if sum(removed) >= least:
            return removed
    raise AssertionError(f"only {sum(removed)} rows went")


def test_cells_that_a_long_absent_sink_sets_free_go_by_as_many_as_a_flush_holds() -> None:
    world = small_world(tier="enterprise", settings=SETTINGS)
    for part in range(6):
        world.send(*[usage(f"op.a{part}.b{number}") for number in range(100)])
    assert len(world.machine.cells) == 600
    world.pass_time(NOW_MS + 60_000)
    assert len(world.machine.cells) == 600
    world.machine.cells_durable_until(world.state_end)
    later = NOW_MS + 5 * HOUR_MS
    removed = sizes(world, lambda: world.machine.advance(later), 600)
    assert max(removed) <= 100
    assert (len(world.machine.cells), world.machine.changed_rows) == (0, 0)


def test_what_is_counted_meanwhile_is_kept() -> None:
    world = small_world(tier="enterprise", settings=SETTINGS)
    for part in range(6):
        world.send(*[usage(f"op.a{part}.b{number}") for number in range(100)])
    world.pass_time(NOW_MS + 60_000)
    world.machine.cells_durable_until(world.state_end)
    later = NOW_MS + 5 * HOUR_MS
    world.pass_time(later)
    for number in range(300):
        world.send(usage("op.a5.b5", ts=later - 4 * HOUR_MS), at=later + number)
    live = world.cells
    assert len(world.machine.cells) == len(live)
    assert sum(cell.events for cell in live.values()) == 300
    world.take_over()
    assert len(world.machine.cells) == len(live)


def test_the_ledgers_of_a_month_that_is_over_go_by_as_many_as_a_flush_holds() -> None:
    world = World(settings=SETTINGS)
    for number in range(150):
        name = f"org_{number}"
        world.obey(organization_put(name), key_put(f"key_{number}", name))
    for number in range(150):
        world.send(usage(key=f"key_{number}", org=f"org_{number}"))
    ledgers = len([key for key in world.rows if key.startswith(b"l|")])
    assert ledgers == 450
    later = month_start_ms(month_index(NOW_MS) + 4)
    steps = iter(range(1, 1_000))
    removed = sizes(world, lambda: world.machine.advance(later + next(steps)), 450)
    assert max(removed) <= 100
    assert len(list(world.machine.ledgers)) == 0


def test_the_largest_flush_fits_the_broker() -> None:
    """Rows of the longest keys: what one record may add on top of the bound is 500 events of 17 operations."""
    long = "x" * 60
    key = f"c|org_{long}|key_{long}|{'a' * 32}.{'b' * 32}.{'c' * 32}|29860800|9223372036854775807".encode()
    cell = Cell(key, 29_860_800, "metadata")
    for name in ("requests", "errors", "throttled", "units", "credits_micro", "events", "rated_version"):
        setattr(cell, name, COUNT_MAX)
    rows = DomainSettings().changed_rows_max + 500 * 17
    changes = [(key + str(number).encode(), cell.encode()) for number in range(rows)]
    records = FlushWriter(1 << 32, b"", {}).build(
        changes,
        flush=1,
        usage_offset=1,
        accounts_offset=1,
        log_time_ms=1,
        catalogue_version=1,
        outbox=[],
        outputs_next=[],
    )
    assert batch_bytes(records) + 3 * Limits().outbox_bytes_max <= Limits().batch_bytes_max


@pytest.mark.parametrize("name", ["requests", "units"])
def test_a_cells_count_stops_at_what_a_row_holds(name: str) -> None:
    cell = Cell(b"c|", 1, "search")
    setattr(cell, name, 2**70)
    assert getattr(DECODE_ROLLUP_CELL(cell.encode()), name) == COUNT_MAX
