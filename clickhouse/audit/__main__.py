"""``python -m clickhouse.audit``: compares the ledger, the rollups and ClickHouse while usage flows (ADR 14).

Without an option it runs until it is stopped, with alerts and metrics (``settings``). ``--once`` compares everything
once, prints what differs and ends with 0 (all agrees), 1 (something differs) or 2 (it could not be compared).
``--repair`` does the same, and writes the rows of ClickHouse anew that can be made from the state or from finer rows.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from sluicegate.errors import TopicsMissingError
from sluicegate_schemas.topics import STATE
from streams.endpoint import ListenError
from streams.engine.fold import StateFormatError
from streams.settings import Settings

from ..connection import ClickHouse
from .ask import Asker
from .auditor import Auditor, LogCutError
from .books import BooksFullError
from .differences import Difference
from .log import StateLog
from .repair import mend, versions_of
from .service import Service
from .settings import AuditSettings
from .words import table

EXIT_AGREES, EXIT_DIFFERS, EXIT_UNKNOWN = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m clickhouse.audit",
        description="Compares the ledger, the rollups and ClickHouse; without an option until it is stopped.",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="compare everything once; exit with 1 if something differs")
    mode.add_argument("--repair", action="store_true", help="as --once, and mend in ClickHouse what can be mended")
    options = parser.parse_args(arguments)
    is_service = not (options.once or options.repair)
    logging.basicConfig(
        level=logging.INFO if is_service else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it logs each failed try; we say it once
    try:
        settings, clickhouse = Settings.from_environment(), ClickHouse.from_environment()
        audit = AuditSettings.from_environment()
        if is_service:
            asyncio.run(Service(settings, clickhouse, audit).run())
            return EXIT_AGREES
        return asyncio.run(_once(settings, clickhouse, audit, is_repair=options.repair))
    except (KafkaError, TopicsMissingError, ClickHouseError, OSError, ListenError) as error:
        sys.stderr.write(f"Nothing could be compared: {error}. Nothing was changed; mend that and run it again.\n")
    except (StateFormatError, BooksFullError, LogCutError, ValueError) as error:
        sys.stderr.write(f"The audit ends, since it cannot compare: {error}\n")
    return EXIT_UNKNOWN


async def _once(settings: Settings, clickhouse: ClickHouse, audit: AuditSettings, *, is_repair: bool) -> int:
    log, asker = StateLog(settings.brokers, settings.topic(STATE.name)), Asker(clickhouse)
    auditor = Auditor(log, asker, audit)
    try:
        await auditor.begin()
        differences = await _walked(auditor)
        if is_repair and differences:
            sys.stdout.write(f"{table(differences)}\n\n")
            versions = await asyncio.to_thread(versions_of, asker.client, differences)
            ends = await log.ends()
            for line in await asyncio.to_thread(mend, auditor.books, asker.client, differences, versions, ends):
                sys.stdout.write(f"{line}\n")
            differences = await _walked(auditor)
    finally:
        await log.close()
        asker.close()
    looks = auditor.findings.by_part.values()
    compared, in_motion = sum(one.compared for one in looks), sum(one.in_motion for one in looks)
    sys.stdout.write(f"{compared} sums compared, {in_motion} in motion and left out, {len(differences)} differ.\n")
    if differences:
        sys.stdout.write(f"{table(differences)}\n")
    return EXIT_DIFFERS if differences else EXIT_AGREES


async def _walked(auditor: Auditor) -> list[Difference]:
    async for _ in auditor.walk():
        pass
    return auditor.findings.differences()


if __name__ == "__main__":
    sys.exit(main())
