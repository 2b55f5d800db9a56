"""Makes a function a command: adds the options that all commands share, runs it, and ends it with an exit code.

A function ``async def show(session, organization: Organization)`` decorated with ``@command(app, "show")`` becomes
``sluicegate … show ORGANIZATION [--json] [--bootstrap-servers …] [--topic-prefix …]``.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from inspect import Parameter
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import typer
from pydantic import BaseModel

from .exits import endings
from .session import Session

Function = TypeVar("Function", bound=Callable[..., Coroutine[Any, Any, None]])


ROOT: Final = "sluicegate"


class Described(NamedTuple):
    """A command for the reference: its words, its own parameters, and the record that it prints with ``--json``."""

    about: str
    parameters: list[Parameter]
    prints: type[BaseModel]


COMMANDS: Final[dict[str, Described]] = {}
"""All commands by their words, as far as their modules were imported."""


def group(name: str, about: str) -> typer.Typer:
    """A command with commands of its own."""
    return typer.Typer(name=name, help=about, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def options(**declared: tuple[Any, object]) -> list[Parameter]:
    """Options as (annotation, default) by parameter name, to be added to a function's own."""
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in declared.items()
    ]


SHARED: Final = options(
    as_json=(Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")], False),
    bootstrap_servers=(
        Annotated[str | None, typer.Option(help="Kafka, instead of SLUICEGATE_BOOTSTRAP_SERVERS.")],
        None,
    ),
    topic_prefix=(Annotated[str | None, typer.Option(help="Instead of SLUICEGATE_TOPIC_PREFIX.")], None),
)


def command(app: typer.Typer, name: str, *, prints: type[BaseModel]) -> Callable[[Function], Function]:
    """Registers a function, whose first parameter is the session, as a command of ``app``; ``prints`` is the record
    that it prints with ``--json``, one or several."""

    def register(function: Function) -> Function:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        def run(**given: Any) -> None:
            as_json, servers, prefix = (given.pop(option.name) for option in SHARED)
            with endings(as_json=as_json):
                session = Session.begin(as_json=as_json, bootstrap_servers=servers, topic_prefix=prefix)
                asyncio.run(function(session, **given))

        with_signature(run, function, [*own, *SHARED])
        path = f"{app.info.name} {name}" if app.info.name != ROOT else name
        COMMANDS[path] = Described(inspect.getdoc(function) or "", own, prints)
        app.command(name)(run)
        return function

    return register


def with_signature(run: Callable[..., object], like: Callable[..., object], parameters: list[Parameter]) -> None:
    """Shows typer ``run`` with these parameters, and with ``like``'s words."""
    keyword = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]  # what inspect.signature then returns
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
    run.__doc__ = like.__doc__
