"""A replay of the source through a fresh machine, without any crash, gives the same rows and the same ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from sluicegate_schemas.catalogue import Catalogue
from streams.domain.partition import Partition
from streams.domain.settings import DomainSettings

from ..rows import buckets_row
from .alerts import AlertWatch
from .journal import Taken
from .outputs import OutputWatch
from .state_log import StateWatch
from .totals import summed

_SAME = (
    b"a|",
    b"b|",
    b"f|",
    b"g|",
    b"h|",
    b"j|",
    b"k|",
    b"l|",
    b"m|",
    b"n|",
    b"o|",
    b"p|",
    b"q|",
    b"r|",
    b"s|",
    b"t|",
    b"u|",
    b"v|",
    b"w|",
    b"x|",
    b"y|",
    b"z|",
)
"""Tables whose rows hang on the input alone. Rollup cells are compared by their sums, since when one is evicted hangs
on the sink; standing decisions are held against the state elsewhere, since a takeover may decide again."""


def replay(
    number: int,
    partitions: int,
    versions: Sequence[Catalogue],
    settings: DomainSettings,
    taken: Iterable[Taken],
    watch: StateWatch,
    outputs: OutputWatch,
    alerts: AlertWatch,
) -> Iterable[str]:
    """What differs from the state that all the owners left."""
    machine = Partition(number, partitions, settings)
    machine.use_catalogues(versions)
    machine.resume(1 << 32, 0, 0)
    rows: dict[bytes, bytes] = {}
    removed: dict[bytes, bytes] = {}
    rejects: set[str] = set()
    forwards: set[bytes] = set()
    told: set[tuple[str, str]] = set()
    for content in taken:
        for is_usage, records in content:
            if is_usage is None:
                machine.take_current(*records)
            elif is_usage:
                left = records
                while left:
                    left = left[machine.apply_usage(left, accounts_current=True) :]
            else:
                machine.apply_accounts(records)
        for key, payload in machine.take_changes():
            before = rows.pop(key, None)
            if payload is not None:
                rows[key] = payload
            elif before is not None and key[:2] == b"c|":
                removed[key] = before
        for record in machine.take_outputs().durable:
            if record.topic == "rejects":
                rejects.add(msgspec.json.decode(record.value)["id"])
            elif record.topic == "usage":
                forwards.add(record.value)
            elif record.topic == "alerts":
                alert = msgspec.json.decode(record.value)
                told.add((alert["alert_id"], alert["state"]))
    of_rows = {key: _comparable(key, one) for key, one in rows.items() if key[:2] in _SAME}
    of_state = {key: _comparable(key, one) for key, one in watch.rows.items() if key[:2] in _SAME}
    if of_rows != of_state:
        wrong = [key for key in sorted(of_rows.keys() | of_state.keys()) if of_rows.get(key) != of_state.get(key)]
        shown = [(key, of_state.get(key), of_rows.get(key)) for key in wrong[:2]]
        yield f"a replay of partition {number} gives {len(wrong)} other rows: (key, state, replay) {shown}"
    cells = [(key, one) for key, one in rows.items() if key[:2] == b"c|"]
    cells_of_state = [(key, one) for key, one in watch.rows.items() if key[:2] == b"c|"]
    if summed([*cells, *removed.items()]) != summed([*cells_of_state, *watch.removed_cells.items()]):
        yield f"a replay of partition {number} gives other rollups"
    place = f"/{number}/"
    said = {name for name in outputs.rejects if place in name and name.split("/")[1] == str(number)}
    if rejects != said:
        yield f"a replay of partition {number} rejects other events: {sorted(rejects ^ said)[:4]}"
    sent = {value for origin, value in outputs.forwards.items() if origin[0] == number}
    if forwards != sent:
        yield f"a replay of partition {number} forwards {len(forwards)} events, {len(sent)} were sent"
    wrong_alerts = (told ^ alerts.of_partition(number)) - {name for name in told if name in alerts.told}
    if wrong_alerts:
        yield f"a replay of partition {number} tells other alerts: {sorted(wrong_alerts)[:4]}"


def _comparable(key: bytes, payload: bytes) -> object:
    """A row without what hangs on who wrote it: since when a key's limits are known to be in force, and whether their
    verdicts are out."""
    return payload if key[:2] != b"b|" else buckets_row(payload)._replace(as_of_ms=0, is_said=True)
