"""The operator's command line."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from aiokafka.errors import KafkaError

from sluicegate_schemas.bounds import NAME_PATTERN, full_match
from sluicegate_schemas.files import FileError, load_accounts, load_catalogue
from sluicegate_schemas.topics import PREFIX_DEFAULT

from ..brokers import Brokers
from ..errors import ConfigurationError, SluicegateError
from .new_key import new_key
from .plans import LEAD_MIN
from .publish import publish

Loaded = TypeVar("Loaded")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 1 where it could not be done, with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], None] = options.command
        command(options)
    except (SluicegateError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KafkaError, OSError) as error:
        print(f"error: {error}. Run the command again: what was written already is left out.", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sluicegate.operator", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    publishing = commands.add_parser(
        "publish", help="publish a catalogue and accounts from files; again changes nothing"
    )
    publishing.add_argument("--catalogue", type=Path, help="a catalogue as TOML")
    publishing.add_argument("--accounts", type=Path, help="organizations and keys as TOML")
    publishing.add_argument("--bootstrap-servers", help="instead of SLUICEGATE_BOOTSTRAP_SERVERS")
    publishing.add_argument("--topic-prefix", default=PREFIX_DEFAULT)
    publishing.add_argument("--by", default="operator", help="who publishes: one word, kept with the catalogue")
    publishing.add_argument(
        "--lead-seconds",
        type=int,
        default=round(LEAD_MIN.total_seconds()),
        help="how far ahead a further version must take effect; the default is the least",
    )
    publishing.set_defaults(command=_publish)

    key = commands.add_parser("new-key", help="make an API key; its secret is shown this once")
    key.add_argument("--organization", required=True, metavar="org_…")
    key.add_argument("--mode", choices=["live", "test"], default="live")
    key.set_defaults(command=_new_key)
    return parser


def _publish(options: argparse.Namespace) -> None:
    if options.catalogue is None and options.accounts is None:
        raise ConfigurationError("nothing to publish: give --catalogue, --accounts or both")
    if not full_match(NAME_PATTERN).match(options.by):
        raise ConfigurationError("--by must be one word of 1 to 64 letters, digits and ._:/@-")
    if options.lead_seconds < 0:
        raise ConfigurationError("--lead-seconds must not be negative")
    brokers = Brokers.from_environment()
    if options.bootstrap_servers:
        brokers = replace(brokers, bootstrap_servers=options.bootstrap_servers)
    catalogue = _load(options.catalogue, load_catalogue)
    published = asyncio.run(
        publish(
            brokers,
            topic_prefix=options.topic_prefix,
            catalogue=catalogue,
            commands=_load(options.accounts, load_accounts) or [],
            now=datetime.now(UTC),
            lead=timedelta(seconds=options.lead_seconds),
            by=options.by,
        )
    )
    if catalogue is not None:
        state = "published" if published.catalogue_version is not None else "was published before"
        print(f"catalogue version {catalogue.version}: {state}")
    if options.accounts is not None:
        print(f"account commands: {published.commands} published, {published.commands_known} were published before")


def _load(path: Path | None, load: Callable[[str], Loaded]) -> Loaded | None:
    if path is None:
        return None
    try:
        return load(path.read_text("utf-8"))
    except FileError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


def _new_key(options: argparse.Namespace) -> None:
    key = new_key(options.organization, options.mode)
    print(f"secret (shown this once; hand it to the customer): {key.secret}")
    print(f'for the accounts file: {{ id = "{key.api_key_id}", sha256 = "{key.key_sha256}", mode = "{options.mode}" }}')


if __name__ == "__main__":
    sys.exit(main())
