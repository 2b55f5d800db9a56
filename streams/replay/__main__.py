"""``python -m streams.replay``: what ``sluicegate replay`` runs; prints a ``ReplayReport`` as JSON.

Where Kafka is comes from the environment (SLUICEGATE_BOOTSTRAP_SERVERS, SLUICEGATE_TOPIC_PREFIX, …). Ends with 0, with
2 where something asked for cannot be, with 5 where Kafka or its topics are away.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from aiokafka.errors import KafkaError

from sluicegate.brokers import Brokers
from sluicegate.cli.exits import Exit
from sluicegate.cli.files import read_file
from sluicegate.errors import ConfigurationError, TopicsMissingError
from sluicegate_schemas.bounds import parse_time
from sluicegate_schemas.catalogue import Tier
from sluicegate_schemas.files import load_catalogue
from sluicegate_schemas.topics import PREFIX_DEFAULT

from .log import Asked, replay


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m streams.replay", description="Replays past usage.")
    parser.add_argument("--plan", type=Path, required=True, help="a catalogue file")
    parser.add_argument("--from", dest="begins", required=True, help="an RFC 3339 time")
    parser.add_argument("--to", dest="ends", required=True, help="an RFC 3339 time")
    parser.add_argument("--tier", action="append", default=[], help="org_…=tier")
    options = parser.parse_args(arguments)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        catalogue = read_file(options.plan, load_catalogue)
        tiers = dict(_tier(text) for text in options.tier)
        asked = Asked(catalogue, parse_time(options.begins), parse_time(options.ends), tiers)
        prefix = os.environ.get("SLUICEGATE_TOPIC_PREFIX", PREFIX_DEFAULT)
        report = asyncio.run(replay(Brokers.from_environment(os.environ), prefix, asked))
    except (ConfigurationError, ValueError) as error:
        return _ended(str(error), Exit.USAGE)
    except TopicsMissingError as error:
        return _ended(f"{error}; a worker creates them when it starts", Exit.AWAY)
    except (KafkaError, OSError) as error:
        return _ended(f"Kafka cannot be used: {error or type(error).__name__}", Exit.AWAY)
    print(report.model_dump_json())
    return Exit.DONE


def _tier(text: str) -> tuple[str, str]:
    organization_id, _, tier = text.partition("=")
    if tier not in get_args(Tier):
        raise ConfigurationError(f"--tier must be organization=tier, with a tier of {', '.join(get_args(Tier))}")
    return organization_id, tier


def _ended(sentence: str, status: Exit) -> int:
    sys.stderr.write(f"error: {sentence}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
