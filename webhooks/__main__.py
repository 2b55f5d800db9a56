"""``python -m webhooks``: delivers alerts to the endpoints of SLUICEGATE_WEBHOOKS_FILE (docs/webhooks.md).

Without a command it runs until it is stopped. ``check`` reads the file and says what is wrong with it. ``dead`` lists
the dead letters. ``replay`` has dead letters tried again, by the dispatcher that runs or the next one.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from sluicegate.errors import TopicsMissingError
from sluicegate_schemas.files import FileError
from sluicegate_schemas.topics import DELIVERIES
from streams.endpoint import ListenError
from streams.settings import Settings, SettingsError

from .endpoints import Endpoint, load_endpoints
from .letters import ask_replays, chosen, dead_letters
from .service import serve

FILE_VARIABLE: Final = "SLUICEGATE_WEBHOOKS_FILE"
FILE_DEFAULT: Final = "webhooks.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status: 0, or 2 with one sentence."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING if options.command else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs each failed try; we say it once
    path = Path(os.environ.get(FILE_VARIABLE, FILE_DEFAULT))
    try:
        if options.command == "dead":
            return asyncio.run(_list_dead(Settings.from_environment(), options.endpoint))
        if options.command == "replay":
            return asyncio.run(_replay(Settings.from_environment(), options.endpoint, options.id))
        endpoints = load_endpoints(path)
        if options.command == "check":
            sys.stdout.write("".join(f"{_line(endpoint)}\n" for endpoint in endpoints))
            return 0
        asyncio.run(serve(Settings.from_environment(), endpoints))
        return 0
    except FileError as error:
        sys.stderr.write(f"{path} ({FILE_VARIABLE}): {error}. Nothing was sent.\n")
    except (SettingsError, ListenError, OSError) as error:
        sys.stderr.write(f"{error}. Nothing was sent.\n")
    except (KafkaError, TopicsMissingError) as error:
        sys.stderr.write(f"Kafka cannot be asked: {error}. Mend that and run it again.\n")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m webhooks",
        description="Delivers alerts to HTTP endpoints; without a command until it is stopped.",
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("check", help="read the endpoints' file, and say what is wrong with it")
    dead = commands.add_parser("dead", help="list the dead letters")
    replay = commands.add_parser("replay", help="have dead letters tried again")
    for command in (dead, replay):
        command.add_argument("--endpoint", help="of this endpoint alone")
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", action="append", help="this webhook id; may be given several times")
    which.add_argument("--all", action="store_true", help="all of them")
    return parser


def _line(endpoint: Endpoint) -> str:
    """An endpoint without its URL and secrets, which nobody's terminal should keep."""
    filters = {
        "organizations": endpoint.organizations,
        "rules": endpoint.rules,
        "severities": endpoint.severities,
    }
    said = [f"{name}: {', '.join(sorted(wanted))}" for name, wanted in filters.items() if wanted is not None]
    return f"{endpoint.name}: {endpoint.form}, {len(endpoint.secrets)} secrets, {'; '.join(said) or 'all alerts'}"


async def _list_dead(settings: Settings, endpoint: str | None) -> int:
    letters = await dead_letters(settings.brokers, settings.topic(DELIVERIES.name))
    for letter in chosen(letters, endpoint=endpoint):
        status = f" {letter.status}" if letter.status else ""
        sys.stdout.write(
            f"{letter.at:%Y-%m-%dT%H:%M:%SZ}  {letter.endpoint}  {letter.webhook_id}  {letter.failure}{status}  "
            f"{letter.attempts} attempts\n"
        )
    return 0


async def _replay(settings: Settings, endpoint: str | None, webhook_ids: Sequence[str] | None) -> int:
    topic = settings.topic(DELIVERIES.name)
    letters = chosen(await dead_letters(settings.brokers, topic), endpoint=endpoint, webhook_ids=webhook_ids)
    await ask_replays(settings.brokers, topic, letters)
    sys.stdout.write(f"{len(letters)} dead letters are to be tried again.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
