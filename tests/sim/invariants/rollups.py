"""ClickHouse holds what the ledger holds, and a stored position is never ahead of the rows that it stands for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from clickhouse.label_rows import LabelRow
from clickhouse.rows import UsageRow
from clickhouse.tables import PositionRow
from sluicegate_schemas.state import DECODE_LABEL_LEDGER, LABEL_LEDGER_PREFIX, parse_label_key
from sluicegate_schemas.topics import DECISIONS, STATE

from ..clickhouse_twin import SimClickHouse
from .state_log import StateWatch
from .totals import summed

_SHOWN = 3


class RollupWatch:
    """Looks at each insert at the moment it takes effect.

    Once compaction has removed a claim, a reader cannot know that what follows is void: it is repaired later.
    """

    def __init__(
        self,
        server: SimClickHouse,
        states: Sequence[StateWatch],
        topic_prefix: str,
        decisions: Callable[[int, int], Iterable[str]],
        alerts: Iterable[tuple[str, str]],
        finals: Mapping[tuple[str, str, str], tuple[tuple[int, int], Any]],
        note: Callable[[str], None],
        is_compacted: Callable[[], bool],
    ) -> None:
        self._is_compacted = is_compacted
        self._server = server
        self._states = states
        self._state_topic = topic_prefix + STATE.name
        self._decisions_topic = topic_prefix + DECISIONS.name
        self._alerts = alerts
        self._finals = finals
        self._decisions = decisions
        self._note = note
        self._checked = [0] * len(states)
        self._newest: dict[tuple[str, ...], int] = {}
        server.watchers.append(self.inserted)

    def inserted(self, rows: Sequence[Any]) -> None:
        """An insert took effect."""
        if isinstance(rows[0], UsageRow):
            for row in rows:
                place = row.source, row.org_id, row.api_key_id, row.operation, str(row.minute // 60), str(row.chunk)
                offset = row.version & (2**64 - 1)
                if offset in self._void_offsets(row.source) and not self._is_compacted():
                    self._note(f"ClickHouse: the row of {place} is a void record's, at offset {offset}")
                self._newest[place] = max(self._newest.get(place, -1), offset)
        elif isinstance(rows[0], PositionRow):
            for row in rows:
                if row.topic == self._state_topic:
                    self._position(row)

    def _void_offsets(self, source: str) -> set[int]:
        number = source.rpartition("/")[2]
        return self._states[int(number)].void_offsets if number.isdecimal() else set()

    def _position(self, row: PositionRow) -> None:
        """Every valid cell below the position is in the table, at this offset or a later one."""
        watch, place = self._states[row.partition], self._checked[row.partition]
        while place < len(watch.cells) and watch.cells[place].offset < row.next_offset:
            cell = watch.cells[place]
            place += 1
            if cell.payload is None:
                continue
            name = f"{row.topic}/{row.partition}", *cell.key.decode().split("|")[1:]
            if self._newest.get(name, -1) < cell.offset:
                self._note(
                    f"ClickHouse: position {row.next_offset} of {row.topic}/{row.partition} was stored before the row "
                    f"of {cell.key!r} at offset {cell.offset}"
                )
        self._checked[row.partition] = place

    def at_rest(self) -> Iterable[str]:
        """What differs between the tables and the state."""
        found: defaultdict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0] * 6)
        for row in self._server.usage.values():
            total = found[row.org_id, row.api_key_id, row.operation, row.minute // 60]
            amounts = row.requests, row.errors, row.throttled, row.units, row.credits_micro, row.events
            for place, amount in enumerate(amounts):
                total[place] += amount
        wanted: defaultdict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0] * 6)
        for watch in self._states:
            rows = ((key, payload) for key, payload in watch.rows.items() if key[:2] == b"c|")
            for name, amounts in summed([*rows, *watch.removed_cells.items()]).items():
                wanted[name] = [one + other for one, other in zip(wanted[name], amounts, strict=True)]
        differences = [
            f"{'/'.join(map(str, name))} is {found.get(name)}, must be {wanted.get(name)}"
            for name in sorted(found.keys() | wanted.keys())
            if found.get(name, [0] * 6) != wanted.get(name, [0] * 6)
        ]
        if differences:
            yield f"ClickHouse, {len(differences)} rollups: {'; '.join(differences[:_SHOWN])}"
        yield from self._labels()
        yield from self._months()
        held = {row.decision_id for row in self._server.decisions.values()}
        missing = [
            name
            for row in self._server.stored.values()
            if row.topic == self._decisions_topic
            for name in self._decisions(row.partition, row.next_offset)
            if name not in held
        ]
        if missing:
            yield f"ClickHouse lacks {len(missing)} decisions: {missing[:_SHOWN]}"
        alerts = {(row.alert_id, row.state) for row in self._server.alerts.values()}
        if (told := set(self._alerts)) != alerts:
            yield f"ClickHouse: the alerts {sorted(told ^ alerts)[:_SHOWN]} are not those that were told"

    def _months(self) -> Iterable[str]:
        """A month that is over is what its final balance said last."""
        found = {(row.kind, row.id, row.month): row for row in self._server.months.values()}
        if found.keys() != self._finals.keys():
            yield f"ClickHouse: the months {sorted(found.keys() ^ self._finals.keys())[:_SHOWN]} are over, or are not"
        for name, row in found.items():
            body = self._finals[name][1] if name in self._finals else {}
            wrong = [
                field
                for field in ("total_micro", "used_micro", "breakdown_micro", "corrections_micro", "requests")
                if getattr(row, field) != body.get(field)
            ]
            if wrong:
                yield f"ClickHouse: the month {name} is {row}, and its balance says otherwise of {wrong}"

    def _labels(self) -> Iterable[str]:
        """The newest row of a label's month is its ledger; so the hours, which are differences, add up to it."""
        newest: dict[tuple[str, str, int], LabelRow] = {}
        for row in self._server.labels.values():
            name = row.org_id, row.label, row.month
            if name not in newest or newest[name].version < row.version:
                newest[name] = row
        for watch in self._states:
            for key, payload in watch.rows.items():
                if key.startswith(LABEL_LEDGER_PREFIX):
                    ledger, row = DECODE_LABEL_LEDGER(payload), newest.get(parse_label_key(key))
                    wanted = ledger.requests, ledger.used_micro
                    found = None if row is None else (row.requests, row.credits_micro)
                    if found != wanted:
                        yield f"ClickHouse: {key.decode()} has (requests, credits) {found}, must have {wanted}"
