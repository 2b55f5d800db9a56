"""What commands say: tables and lines for people, or one JSON document a record."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .text import ascii_json, plain

_PIPED_WIDTH: Final = 10_000
"""A pipe has no width: nothing is folded there."""


class Screen:
    """Standard output of one command. ``as_json`` says which of the two forms is wanted."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(
            file=sys.stdout,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
            width=None if sys.stdout.isatty() else _PIPED_WIDTH,
        )

    def record(self, record: BaseModel, lines: Iterable[str]) -> None:
        """One record: as JSON on one line, or as ``lines`` for people."""
        if self.as_json:
            self._json(record.model_dump(mode="json"))
        else:
            for line in lines:
                self.line(line)

    def records(self, records: Sequence[BaseModel], headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Several: as a JSON array, or as a table."""
        if self.as_json:
            self._json([record.model_dump(mode="json") for record in records])
        else:
            self.table(headings, rows)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table for people."""
        table = Table(*headings, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(Text(plain(cell)) for cell in row))
        with self._console.capture() as printed:
            self._console.print(table)
        _write(printed.get())

    def line(self, text: str) -> None:
        """A line for people."""
        _write(plain(text) + "\n")

    def _json(self, value: object) -> None:
        _write(ascii_json(json.dumps(value)) + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()  # whoever follows a pipe sees it at once, and a pipe that broke is noticed here


def note(text: str) -> None:
    """A word aside, on standard error, so that it never mixes with the answer."""
    sys.stderr.write(plain(text) + "\n")
