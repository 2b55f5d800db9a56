"""Reads a recorded trace of requests: a CSV file with the columns TIMESTAMP, ContextTokens and GeneratedTokens."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from stack.errors import StackError

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
TOKENS_MAX: Final = 10**9
ROWS_MAX: Final = 1_000_000
FIELD_CHARACTERS_MAX: Final = 64
CYCLE_GAP_MS_MIN: Final = 1


class TraceError(StackError):
    """A trace file that cannot be replayed; the message names the line."""


class TraceRow(NamedTuple):
    """One recorded request: when it arrived, in ms after the first, and its tokens. ``line`` counts from 1."""

    line: int
    arrival_ms: int
    context_tokens: int
    generated_tokens: int


class Trace(NamedTuple):
    """Rows in order of arrival, at least one; ``cycle_ms``, its length and one mean gap, is when it may start anew."""

    rows: tuple[TraceRow, ...]
    cycle_ms: int


def read_trace(path: Path) -> Trace:
    """The trace in ``path``. Rows may stand in any order, and further columns are not looked at.

    :raises TraceError: the file cannot be read, or a line of it (named in the message) is not a trace row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return parse_trace(file, name=str(path))
    except OSError as error:
        raise _refused(f"The trace {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _refused(f"The trace {path} is not UTF-8 text (byte {error.start})") from error


def parse_trace(lines: Iterable[str], *, name: str) -> Trace:
    """The trace that ``lines`` hold; ``name`` is what messages call it. Raises TraceError."""
    arrivals = sorted(_arrivals(lines, name), key=lambda arrival: arrival[1])
    if not arrivals:
        raise _refused(f"The trace {name} holds no rows")
    first = arrivals[0][1]
    rows = tuple(TraceRow(line, at_ms - first, context, generated) for line, at_ms, context, generated in arrivals)
    length_ms = rows[-1].arrival_ms
    gap_ms = length_ms // max(len(rows) - 1, 1)
    return Trace(rows, length_ms + max(gap_ms, 1000 if len(rows) == 1 else CYCLE_GAP_MS_MIN))


def _arrivals(lines: Iterable[str], name: str) -> Iterator[tuple[int, int, int, int]]:
    reader = csv.reader(lines, strict=True)
    columns: tuple[int, ...] | None = None
    count = 0
    try:
        for row in reader:
            line = reader.line_num
            if not row:
                continue
            if columns is None:
                columns = _columns(row, f"{name} line {line}")
                continue
            count += 1
            if count > ROWS_MAX:
                raise _refused(f"{name} line {line}: a trace may hold at most {ROWS_MAX:,} rows")
            yield _arrival(row, columns, line, f"{name} line {line}")
    except csv.Error as error:
        raise _refused(f"{name} line {reader.line_num}: not CSV: {error}") from error
    if columns is None:
        raise _refused(f"The trace {name} is empty; its first line must name the columns {', '.join(COLUMNS)}")


def _columns(header: list[str], where: str) -> tuple[int, ...]:
    names = [field.strip() for field in header]
    for column in COLUMNS:
        if names.count(column) != 1:
            raise _refused(f"{where}: the header must name the column {column} once; it is {','.join(names)[:200]!r}")
    return tuple(names.index(column) for column in COLUMNS)


def _arrival(row: list[str], columns: tuple[int, ...], line: int, where: str) -> tuple[int, int, int, int]:
    if len(row) <= max(columns):
        raise _refused(f"{where}: {len(row)} fields, but the header names more")
    stamp, context, generated = (row[column].strip() for column in columns)
    return line, _time_ms(stamp, where), _tokens(context, COLUMNS[1], where), _tokens(generated, COLUMNS[2], where)


def _time_ms(text: str, where: str) -> int:
    try:
        if len(text) > FIELD_CHARACTERS_MAX:
            raise ValueError
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _refused(f"{where}: TIMESTAMP is {_shown(text)}, not a time like 2023-11-16 18:17:03.9799600") from error
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def _tokens(text: str, column: str, where: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= TOKENS_MAX:
        return int(text)
    raise _refused(f"{where}: {column} is {_shown(text)}, not a whole number from 0 to {TOKENS_MAX:,}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= FIELD_CHARACTERS_MAX else text[:FIELD_CHARACTERS_MAX] + "…")


def _refused(happened: str) -> TraceError:
    return TraceError(happened, kept="Nothing was sent", next_step="Correct the file, or name another with --trace")
