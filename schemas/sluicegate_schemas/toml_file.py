"""A TOML file of the operator: parsed, with money in credits, and errors that name field and line."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from .money import parse_credits
from .toml_lines import line_of

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
_INTEGER_MAX: Final = 2**63 - 1
_DETAIL_MAX: Final = 500
_TOML_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)")
Path = tuple[str | int, ...]
"""Names and indexes from the top of a file to a value in it."""
_ReadT = TypeVar("_ReadT")


class FileError(ValueError):
    """A file cannot be used: ``field`` (its path, such as ``plans.pro.rates``) and ``line``, where they are known."""

    def __init__(self, detail: str, *, field: str | None = None, line: int | None = None) -> None:
        detail = detail if len(detail) <= _DETAIL_MAX else f"{detail[: _DETAIL_MAX - 1]}…"
        where = [f"line {line}" if line is not None else "", field or ""]
        super().__init__(": ".join([", ".join(word for word in where if word), detail]).removeprefix(": "))
        self.detail = detail
        self.field = field
        self.line = line


def shown(name: str) -> str:
    """A name of a file as a message shows it: on one line, without control signs, not long."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return name
    return json.dumps(name if len(name) <= 64 else f"{name[:63]}…")


def field_of(path: Path) -> str:
    """``path`` as a message shows it: ``organizations[0].keys[1].id``."""
    field = ""
    for name in path:
        if isinstance(name, int):
            field += f"[{name}]"
        else:
            field += ("." if field else "") + shown(name)
    return field


class TomlFile:
    """A parsed TOML text that turns what is wrong in it into errors with a field and a line.

    ``renamed`` are the fields that have another name in the records that the file becomes.
    """

    def __init__(self, text: str, renamed: Mapping[str, str]) -> None:
        self.text = text
        self._renamed = renamed
        self._names_in_files = {record_name: name for name, record_name in renamed.items()}
        if len(text.encode(errors="replace")) > FILE_BYTES_MAX:
            raise FileError(f"is larger than {FILE_BYTES_MAX} bytes")
        try:
            parsed = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            match = _TOML_LINE.search(str(error))
            detail = _TOML_LINE.sub("", str(error)).strip()
            raise FileError(f"is not valid TOML: {detail}", line=int(match[1]) if match else None) from None
        except ValueError:
            raise FileError("holds a number of thousands of digits") from None
        except RecursionError:
            raise FileError("is not usable TOML: nested too deep") from None
        try:
            self.content: dict[str, Any] = {name: self._plain(value, (name,)) for name, value in parsed.items()}
        except RecursionError:
            raise FileError("is not usable: nested too deep") from None

    def fail(self, path: Path, detail: str) -> NoReturn:
        """Refuses what stands at ``path``."""
        raise FileError(detail, field=field_of(path) or None, line=self.line(path))

    def line(self, path: Path) -> int | None:
        """The line of what stands at ``path``."""
        return line_of(self.text, path)

    def read(
        self,
        kind: TypeAdapter[_ReadT],
        fields: Mapping[str, object],
        path: Path = (),
        names: Mapping[str, str] | None = None,
    ) -> _ReadT:
        """The record that ``fields``, which stand at ``path``, make. ``names`` are those in the file of fields that are
        renamed only here. Raises FileError."""
        try:
            return kind.validate_json(json.dumps(fields))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            said: dict[Path, list[str]] = {}
            for problem in problems:
                where = self._path_of(problem["loc"], path, names or {})
                said.setdefault(where, []).append(problem["msg"].removeprefix("Value error, "))
            where, details = next(iter(said.items()))
            more = f" ({len(said) - 1} more problems in this file)" if len(said) > 1 else ""
            self.fail(where, ", or: ".join(details) + more)

    def _path_of(self, location: Iterable[str | int], path: Path, names: Mapping[str, str]) -> Path:
        """A pydantic error location as the path in the file: file names, without the tags of unions."""
        node: object = self.content
        for name in path:
            node = node[name]  # type: ignore[index]  # the path was walked before
        for name in location:
            here = names.get(name, self._names_in_files.get(name, name)) if isinstance(name, str) else name
            if here == "[key]":
                break
            if isinstance(node, Mapping):
                if here not in node and node.get("kind") == here:
                    continue
                node = node.get(here)
            elif isinstance(node, list) and isinstance(here, int) and here < len(node):
                node = node[here]
            elif not isinstance(node, list):
                continue  # the tag of a union of plain values
            path = (*path, here)
        return path

    def _plain(self, value: object, path: Path) -> Any:
        """``value`` as JSON knows it: times as RFC 3339. Fractions and times without a zone are refused."""
        if isinstance(value, dict):
            return {name: self._plain(child, (*path, name)) for name, child in value.items()}
        if isinstance(value, list):
            return [self._plain(child, (*path, at)) for at, child in enumerate(value)]
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.isoformat()
        if isinstance(value, int) and abs(value) > _INTEGER_MAX:
            self.fail(path, f"must lie between -{_INTEGER_MAX} and {_INTEGER_MAX}")
        if not isinstance(value, str | int):
            what = 'a fraction: write "0.1", in quotes' if isinstance(value, float) else "a time without a zone"
            self.fail(path, f"must not be {what}")
        return value

    def table(self, value: object, path: Path) -> dict[str, Any]:
        """``value``, which must be a table; a copy."""
        if not isinstance(value, dict):
            self.fail(path, "must be a table")
        return dict(value)

    def tables(self, value: object, path: Path, at_most: int) -> list[dict[str, Any]]:
        """``value``, which must be a list of tables; copies."""
        if not isinstance(value, list):
            self.fail(path, "must be a list of tables")
        if len(value) > at_most:
            self.fail(path, f"must have {at_most} entries at most")
        return [self.table(one, (*path, at)) for at, one in enumerate(value)]

    def credits(self, table: object, path: Path, names: Iterable[str]) -> dict[str, Any]:
        """``table`` with the credits under ``names`` as micro-credits under the records' own names."""
        converted = self.table(table, path)
        for name in names:
            record_name = self._renamed[name]
            if record_name in converted:
                self.fail((*path, record_name), f"is written in credits here: {name}")
            if name in converted:
                converted[record_name] = self.credits_value(converted.pop(name), (*path, name))
        return converted

    def credits_value(self, value: object, path: Path) -> int:
        """``value`` credits as micro-credits."""
        try:
            return parse_credits(value)
        except ValueError as error:
            self.fail(path, str(error))
