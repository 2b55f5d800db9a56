"""Commands that are modules of the system's own processes: run in a process of their own, where their code is."""

import asyncio
import os
import sys
from importlib.util import find_spec
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import ConfigurationError
from .exits import CommandError, Exit
from .session import Session

_RecordT = TypeVar("_RecordT", bound=BaseModel)


async def run_module(session: Session, module: str, *words: str, prints: type[_RecordT]) -> _RecordT:
    """The record that ``python -m MODULE WORDS`` prints. Raises ConfigurationError where its code is not installed, and
    CommandError with its last sentence where it fails."""
    if find_spec(module.partition(".")[0]) is None:
        raise ConfigurationError(f"this needs the code of {module}: run it in the checkout or in the system's image")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *words),
        env={
            **os.environ,
            "SLUICEGATE_BOOTSTRAP_SERVERS": session.brokers.bootstrap_servers,
            "SLUICEGATE_TOPIC_PREFIX": session.topic_prefix,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, failed = await child.communicate()
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise
    if child.returncode:
        sentence = (failed.decode(errors="replace").strip().splitlines() or [f"{module} ended without a word"])[-1]
        status = Exit(child.returncode) if child.returncode in set(Exit) else Exit.USAGE
        raise CommandError(sentence.removeprefix("error: "), status)
    try:
        return prints.model_validate_json(said)
    except ValidationError:
        raise CommandError(f"{module} answered something that is no report", Exit.USAGE) from None
