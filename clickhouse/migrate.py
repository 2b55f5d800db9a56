"""Brings the tables up to date: ``python -m clickhouse.migrate``.

A migration is a file ``NNN_name.sql`` of statements that may be repeated (``IF NOT EXISTS``), so that two processes
that migrate at once, or one that was killed half-way, do no harm. What was applied is kept with a checksum in
``schema_migration``; a file that changed afterwards is refused. SLUICEGATE_CLICKHOUSE_CLUSTER names the cluster where
the tables are replicated; unset, they are plain tables on one server.
"""

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from .connection import ClickHouse

FOLDER: Final = Path(__file__).parent / "migrations"
_FILE_NAME: Final = re.compile(r"(\d{3})_([a-z0-9_]+)\.sql")
_CLUSTER_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migration ${ON_CLUSTER}
(number UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))
ENGINE = ${REPL}ReplacingMergeTree ORDER BY (number, checksum)
"""


class MigrationError(Exception):
    """The files and what was applied do not agree; nothing was changed after the point that it names."""


class Migration(NamedTuple):
    """One numbered file; ``checksum`` is the SHA-256 of its bytes in hexadecimal."""

    number: int
    name: str
    text: str
    checksum: str

    def statements(self, cluster: str | None) -> list[str]:
        """The file's statements for one server, or replicated on ``cluster``."""
        uncommented = re.sub(r"^\s*--.*$", "", self.text, flags=re.MULTILINE)
        parts = (part.strip() for part in re.split(r";\s*$", uncommented, flags=re.MULTILINE))
        return [place(part, cluster) for part in parts if part]


def place(statement: str, cluster: str | None) -> str:
    """``statement`` with ``${ON_CLUSTER}`` and ``${REPL}`` filled in."""
    on_cluster, replicated = (f"ON CLUSTER `{cluster}`", "Replicated") if cluster else ("", "")
    return statement.replace("${ON_CLUSTER}", on_cluster).replace("${REPL}", replicated)


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """The migrations of ``folder`` in order. Raises MigrationError for a misnamed file, a gap or a number twice."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        if (match := _FILE_NAME.fullmatch(path.name)) is None:
            raise MigrationError(f"{path.name} is not named like 001_what_it_does.sql")
        content = path.read_bytes()
        migrations.append(
            Migration(int(match[1]), match[2], content.decode("utf-8"), hashlib.sha256(content).hexdigest())
        )
    numbers = [migration.number for migration in migrations]
    if numbers != list(range(1, len(numbers) + 1)):
        raise MigrationError(f"the migrations must be numbered 001, 002, … without a gap; found {numbers}")
    return migrations


def apply_migrations(client: Client, migrations: Sequence[Migration], cluster: str | None = None) -> list[Migration]:
    """Applies what is missing, in order, and returns it.

    Raises MigrationError before any change where an applied file has changed, or where the database holds a migration
    that is not among ``migrations`` (a newer release was here).
    """
    client.command(place(_LEDGER, cluster))
    applied = client.query("SELECT number, name, checksum FROM schema_migration FINAL").result_rows
    known = {migration.number: migration for migration in migrations}
    for number, name, checksum in applied:
        migration = known.get(number)
        if migration is None:
            raise MigrationError(
                f"the database holds migration {number:03} ({name}), which this release does not know: "
                "run the release that made it, or a newer one. Nothing was changed."
            )
        if migration.checksum != checksum:
            raise MigrationError(
                f"migration {number:03}_{migration.name}.sql was changed after it was applied "
                f"(was {checksum[:12]}…, is {migration.checksum[:12]}…): put it back and write the change as a new "
                "migration. Nothing was changed."
            )
    done = {number for number, _, _ in applied}
    missing = [migration for migration in migrations if migration.number not in done]
    for migration in missing:
        for statement in migration.statements(cluster):
            client.command(statement)
        client.insert(
            "schema_migration",
            [[migration.number, migration.name, migration.checksum]],
            column_names=["number", "name", "checksum"],
        )
    return missing


def migrate(clickhouse: ClickHouse, cluster: str | None = None, folder: Path = FOLDER) -> list[Migration]:
    """Creates the database if it is missing and applies what is missing there; returns what was applied.

    Raises MigrationError, ValueError for an impossible cluster name, and clickhouse_connect's errors.
    """
    if cluster is not None and not _CLUSTER_NAME.fullmatch(cluster):
        raise ValueError("SLUICEGATE_CLICKHOUSE_CLUSTER must be 1 to 63 letters, digits, _ or -")
    migrations = read_migrations(folder)
    server = clickhouse.connect(database="default")
    try:
        server.command(place(f"CREATE DATABASE IF NOT EXISTS `{clickhouse.database}` ${{ON_CLUSTER}}", cluster))
    finally:
        server.close()
    client = clickhouse.connect()
    try:
        return apply_migrations(client, migrations, cluster)
    finally:
        client.close()


def main() -> int:
    """Command line entry; exit status 1 with one sentence where it cannot be done."""
    try:
        clickhouse = ClickHouse.from_environment()
        applied = migrate(clickhouse, os.environ.get("SLUICEGATE_CLICKHOUSE_CLUSTER") or None)
    except (MigrationError, ClickHouseError, OSError, ValueError) as error:
        print(
            f"ClickHouse was not migrated: {error}\nMend that and run it again; what was applied stands.",
            file=sys.stderr,
        )
        return 1
    for migration in applied:
        print(f"applied {migration.number:03} {migration.name}")
    print(f"The tables in {clickhouse.url}, database {clickhouse.database}, are up to date.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
