"""The command line: ``python -m stack up | down | status``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from stack import background
from stack.errors import StackError
from stack.folder import Folder, StackState, data_folder
from stack.interrupts import hear_interrupts, only_end_now
from stack.launcher import Stack

KAFKA_PORT, CLICKHOUSE_PORT = 9092, 8123
EXIT_FAILED, EXIT_NOT_RUNNING, EXIT_INTERRUPTED = 1, 3, 130
INTERRUPTED = "Interrupted: what had been started was stopped, all data was kept; run the same command to go on."

app = typer.Typer(add_completion=False, help="The whole system on one machine.", no_args_is_help=True)

Data = Annotated[
    Path | None, typer.Option("--data", help="Data folder; default SLUICEGATE_DATA_DIR, else .sluicegate here.")
]
KafkaPort = Annotated[int, typer.Option("--kafka-port", min=1, max=65535, help="Kafka's loopback port.")]
ClickHousePort = Annotated[int, typer.Option("--clickhouse-port", min=1, max=65535, help="ClickHouse's loopback port.")]
Foreground = Annotated[bool, typer.Option("--foreground", help="Stay, and stop everything when this ends.")]


@contextlib.contextmanager
def clear_endings(interrupted: Callable[[], str] = lambda: INTERRUPTED) -> Iterator[None]:
    """Every failure ends in one sentence on standard error and a non-zero exit code; SIGTERM and SIGHUP are
    interrupts like Ctrl-C, after which ``interrupted`` says what was kept and how to go on."""
    hear_interrupts()
    try:
        yield
    except StackError as error:
        _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        _fail(interrupted(), EXIT_INTERRUPTED)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or ''}. All data was kept.", EXIT_FAILED)


def _say(words: str) -> None:
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def _fail(sentence: str, code: int) -> None:
    sys.stderr.write(sentence + "\n")
    raise typer.Exit(code)


@app.command()
def up(
    data: Data = None,
    kafka_port: KafkaPort = KAFKA_PORT,
    clickhouse_port: ClickHousePort = CLICKHOUSE_PORT,
    foreground: Foreground = False,
) -> None:
    """Start Kafka and ClickHouse; they stay until `down`."""
    with clear_endings():
        folder = Folder(data_folder(data))
        if foreground:
            _stay(Stack(folder.path, kafka_port=kafka_port, clickhouse_port=clickhouse_port))
            return
        _print_running(background.up(folder, kafka_port=kafka_port, clickhouse_port=clickhouse_port, say=_say))


def _stay(stack: Stack) -> None:
    failure = ""
    try:
        stack.start(say=_say)
        _say(f"Kafka {stack.kafka.bootstrap}, ClickHouse {stack.clickhouse.url}; Ctrl-C stops both")
        stack.watch()
    except StackError as error:
        failure = str(error)
        raise
    finally:
        only_end_now()
        stack.stop(failure)


@app.command()
def down(data: Data = None) -> None:
    """Stop them; the data stays."""
    with clear_endings():
        folder = Folder(data_folder(data))
        stopped = background.down(folder)
        typer.echo(f"Stopped; the data is kept in {folder.path}." if stopped else f"Nothing runs on {folder.path}.")


@app.command()
def status(data: Data = None) -> None:
    """Say what runs; exits with 3 when nothing does."""
    with clear_endings():
        folder = Folder(data_folder(data))
        state = folder.read_state()
        if not folder.is_owned():
            typer.echo(f"Nothing runs on {folder.path}.")
            if state is not None and state.phase == "failed":
                typer.echo(f"The last run failed: {state.message}")
            raise typer.Exit(EXIT_NOT_RUNNING)
        if state is None or state.phase != "running":
            typer.echo(f"Starting or stopping on {folder.path}.")
        else:
            _print_running(state)


def _print_running(state: StackState) -> None:
    typer.echo(f"Kafka       {state.kafka_bootstrap}  (process {state.kafka_pid})")
    typer.echo(f"ClickHouse  {state.clickhouse_url}  (process {state.clickhouse_pid})")
    typer.echo(f"            user {state.clickhouse_user}, password in {state.clickhouse_password_file}")
    typer.echo(f"Keeper      process {state.pid}; stop all with `python -m stack down`")
