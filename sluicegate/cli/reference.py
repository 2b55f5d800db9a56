"""Writes docs/cli.md from the commands themselves: ``python -m sluicegate.cli.reference docs/cli.md``."""

import sys
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from inspect import Parameter
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from typer.models import ArgumentInfo, OptionInfo

from ..operator.commands import Outcome
from . import app  # noqa: F401  # it imports all commands
from .change import CHANGE
from .command import COMMANDS, Described
from .exits import MEANINGS

_ARRAYS: Final = ("org list", "pool show", "usage")
_OF_CHANGES: Final = {option.name for option in CHANGE}
_HEAD: Final = """# The command line

`pip install 'sluicegate[cli]'`, then `sluicegate` (`python -m sluicegate.cli` is the same). Where Kafka and ClickHouse
are is said by the variables that all parts share: `SLUICEGATE_BOOTSTRAP_SERVERS`, `SLUICEGATE_KAFKA_USERNAME` and
`_PASSWORD` (or `_PASSWORD_FILE`), `SLUICEGATE_KAFKA_CA_FILE`, `SLUICEGATE_TOPIC_PREFIX`, `SLUICEGATE_CLICKHOUSE_URL`,
`_USER`, `_PASSWORD` (or `_PASSWORD_FILE`) and `_DATABASE`. This page is written by
`python -m sluicegate.cli.reference docs/cli.md`.

A command that changes something is appended to the accounts topic; then it waits until the worker that owns the
account has obeyed (the audit trail says so) or refused (the rejects say so). All changes take `--by` (who acts; default
`SLUICEGATE_OPERATOR`, else the login name), `--reason` (for the audit trail), `--wait` (seconds to wait, default 15; 0
only sends) and `--command-id`: an earlier try's, which acts once however often it is sent.
What topics hold is shown without control, format and direction signs, so that nothing in them can act on a terminal.

Every command takes `--json`, `--bootstrap-servers` and `--topic-prefix`. With `--json` it prints one JSON document on
standard output, `tail` one a line, of the record that its section names (*array of*: as one array); fields are only
ever added. Times are RFC 3339, money is integer micro-credits. A failure is one sentence on standard error, with
`--json` `{"error": {"code", "exit", "message"}}`.
"""


def reference() -> str:
    """The page."""
    parts = [_HEAD, "## Exit codes\n", "| code | name | meaning |", "|---|---|---|"]
    parts += [f"| {int(code)} | {code.name.lower()} | {meaning} |" for code, meaning in MEANINGS.items()]
    shapes: dict[str, type[BaseModel]] = {}
    parts.append("\n## Commands")
    for path in sorted(COMMANDS):
        parts += ["", *_section(path, COMMANDS[path])]
        _collect(COMMANDS[path].prints, shapes)
    parts.append("\n## Records\n")
    parts.append("Those of the topics are in [schemas/json](../schemas/json); these are the command line's own.")
    for name in sorted(shapes):
        parts += ["", *_shape(shapes[name])]
    return "\n".join(parts) + "\n"


def _section(path: str, one: Described) -> list[str]:
    arguments: list[str] = []
    options: list[str] = []
    is_change = one.prints is Outcome
    for parameter in one.parameters:
        if is_change and parameter.name in _OF_CHANGES:
            continue
        about = next((word for word in get_args(parameter.annotation)[1:]), None)
        if isinstance(about, OptionInfo):
            options.append(_option(parameter, about))
        elif parameter.default is not Parameter.empty:
            options.append(_option(parameter, OptionInfo()))
        else:
            arguments.append(_argument(parameter, about))
    many = "array of " if path in _ARRAYS else ""
    lines = [f"### `{' '.join(['sluicegate', path, *arguments])}`", "", " ".join(one.about.split()), ""]
    lines.append(f"Prints: {many}`{one.prints.__name__}`" + (". A change." if is_change else ""))
    return lines if not options else [*lines, "", "| option | default | |", "|---|---|---|", *options]


def _argument(parameter: Parameter, about: object) -> str:
    if isinstance(about, ArgumentInfo) and about.metavar:
        return about.metavar
    return _choices(parameter.annotation) or parameter.name.upper()


def _option(parameter: Parameter, about: OptionInfo) -> str:
    given = [about.default] if isinstance(about.default, str) else []  # where typer keeps the first of them
    names = [*given, *(about.param_decls or ())] or ["--" + parameter.name.replace("_", "-")]
    default = parameter.default
    if default is Parameter.empty:
        said = "needed"
    else:
        said = "" if default in (None, "", False) else "yes" if default is True else f"`{default}`"
    words = " ".join(word for word in (about.help or "", _choices(parameter.annotation)) if word).replace("|", "\\|")
    return f"| {', '.join(f'`{name}`' for name in names)} | {said} | {words} |"


def _choices(annotation: Any) -> str:
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return "|".join(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ""


def _collect(shape: type[BaseModel], shapes: dict[str, type[BaseModel]]) -> None:
    """``shape`` and what it is made of, as far as it is the command line's own."""
    if not shape.__module__.startswith("sluicegate.") or shape.__name__ in shapes:
        return
    shapes[shape.__name__] = shape
    for field in shape.model_fields.values():
        for part in _parts(field.annotation):
            _collect(part, shapes)


def _parts(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _shape(shape: type[BaseModel]) -> list[str]:
    lines = [f"### `{shape.__name__}`", "", " ".join((shape.__doc__ or "").replace("``", "`").split()), ""]
    lines += ["| field | type |", "|---|---|"]
    lines += [f"| `{name}` | {_type(field.annotation)} |" for name, field in shape.model_fields.items()]
    return lines


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in arguments))
    if origin is Literal:
        return " or ".join(f'"{one}"' for one in arguments) if len(arguments) <= 5 else "text"
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[1])} by {_type(arguments[0])}"
    names = {str: "text", int: "integer", bool: "true or false", datetime: "time", NoneType: "null", object: "any"}
    return names.get(annotation) or f"`{annotation.__name__}`"


def main(file: Path) -> None:
    """Write the reference of all commands."""
    file.write_text(reference(), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sluicegate.cli.reference FILE")
    main(Path(sys.argv[1]))
