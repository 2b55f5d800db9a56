"""How commands end: the exit codes, and one sentence for each failure instead of a traceback."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final, NoReturn

import typer
from aiokafka.errors import KafkaError

from ..errors import ConfigurationError, NotFoundError, PublishRefusedError, SluicegateError, TopicsMissingError
from .text import ascii_json, plain


class Exit(IntEnum):
    """The exit codes; ``MEANINGS`` says what each is."""

    DONE = 0
    FOUND = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    AWAY = 5
    UNCONFIRMED = 6
    CONFLICT = 7
    INTERRUPTED = 130


MEANINGS: Final[dict[Exit, str]] = {
    Exit.DONE: "It is done.",
    Exit.FOUND: "The look found something wrong (`doctor`), or a difference (`catalog diff`).",
    Exit.USAGE: "The command line, a setting or a file is wrong; nothing was sent.",
    Exit.REFUSED: "The worker or a rule of publication refused it; nothing changed.",
    Exit.NOT_FOUND: "What was asked for does not exist, or no longer.",
    Exit.AWAY: "Kafka or ClickHouse cannot be reached, its topics are missing, or no worker answers: try again later.",
    Exit.UNCONFIRMED: "It was sent, and no answer came in time: repeat it with its `--command-id`, it acts once.",
    Exit.CONFLICT: "Others changed the same thing at the same moment; nothing of this was changed: repeat it.",
    Exit.INTERRUPTED: "Interrupted (Ctrl-C).",
}


class CommandError(Exception):
    """A failure that ends a command: what is wrong and what to do, in one sentence, and the exit code."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def endings(*, as_json: bool) -> Iterator[None]:
    """Ends a failed command with its exit code and one sentence on standard error, an object with ``--json``."""
    try:
        yield
    except CommandError as error:
        _end(str(error), error.exit_code, as_json=as_json)
    except NotFoundError as error:
        _end(str(error), Exit.NOT_FOUND, as_json=as_json)
    except PublishRefusedError as error:
        _end(str(error), Exit.REFUSED, as_json=as_json)
    except TopicsMissingError as error:
        _end(f"{error}; a worker creates them when it starts", Exit.AWAY, as_json=as_json)
    except ConfigurationError as error:
        _end(str(error), Exit.USAGE, as_json=as_json)
    except BrokenPipeError:  # the reader of a pipe has gone, which is no failure; a later flush must not say so either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.DONE) from None
    except (KafkaError, OSError, TimeoutError) as error:
        said = str(error) or type(error).__name__
        _end(f"Kafka cannot be used: {said}. See SLUICEGATE_BOOTSTRAP_SERVERS.", Exit.AWAY, as_json=as_json)
    except SluicegateError as error:
        _end(str(error), Exit.USAGE, as_json=as_json)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(Exit.INTERRUPTED) from None


def _end(message: str, exit_code: Exit, *, as_json: bool) -> NoReturn:
    if as_json:
        error = {"error": {"code": exit_code.name.lower(), "exit": int(exit_code), "message": message}}
        sys.stderr.write(ascii_json(json.dumps(error)) + "\n")
    else:
        sys.stderr.write(f"error: {plain(message)}\n")
    raise typer.Exit(exit_code)
