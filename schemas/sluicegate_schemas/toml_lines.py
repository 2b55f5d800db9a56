"""On which line of a TOML file a value stands, for error messages (``tomllib`` forgets it)."""

import re
import tomllib
from collections.abc import Sequence
from typing import Final

Path = tuple[str | int, ...]

_HEADER: Final = re.compile(r"\s*(\[\[?)(?!\[)(.+?)\]\]?\s*(?:#.*)?\Z")
_KEY: Final = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*'))*)\s*="""
)


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line, from 1, of the value at ``path`` in the valid TOML ``text``, or of the nearest table around it."""
    wanted = tuple(path)
    best_line, best_length = None, 0
    for at, start in _starts(text):
        common = len(start) if wanted[: len(start)] == start else 0
        if common > best_length:
            best_line, best_length = at, common
    return best_line


def _starts(text: str) -> list[tuple[int, Path]]:
    """(line, path) of each table header and each key that begins a line."""
    found: list[tuple[int, Path]] = []
    table: Path = ()
    counts: dict[Path, int] = {}
    for at, line in enumerate(text.splitlines(), start=1):
        if match := _HEADER.match(line):
            names = _names(match[2])
            if names is None:
                continue
            table = _placed(names, counts, new_element=match[1] == "[[")
            found.append((at, table))
        elif (match := _KEY.match(line)) and (names := _names(match[1])) is not None:
            found.append((at, table + names))
    return found


def _placed(names: Path, counts: dict[Path, int], *, new_element: bool) -> Path:
    """``names`` with the index of each array of tables on the way."""
    path: Path = ()
    for position, name in enumerate(names):
        path = (*path, name)
        if new_element and position == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _names(dotted: str) -> Path | None:
    """``a."b.c".d`` as its names, read by the TOML parser itself."""
    try:
        node: object = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return None
    names: list[str | int] = []
    while isinstance(node, dict):
        name, node = next(iter(node.items()))
        names.append(name)
    return tuple(names)
