"""How every process reaches ClickHouse: address and credentials from the environment, the ordinary HTTP client."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

CONNECT_TIMEOUT_S: Final = 5
ANSWER_TIMEOUT_S: Final = 30
URL_DEFAULT: Final = "http://127.0.0.1:8123"
USERNAME_DEFAULT: Final = "default"
DATABASE_DEFAULT: Final = "sluicegate"
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """Where ClickHouse is and who we are there."""

    url: str = URL_DEFAULT
    username: str = USERNAME_DEFAULT
    password: str = field(default="", repr=False)
    database: str = DATABASE_DEFAULT

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ValueError("SLUICEGATE_CLICKHOUSE_URL must be http://host:port or https://host:port, without a user")
        if not _IDENTIFIER.fullmatch(self.database):
            raise ValueError("SLUICEGATE_CLICKHOUSE_DATABASE must be a plain identifier of 1 to 63 signs")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Reads SLUICEGATE_CLICKHOUSE_URL, _USER, _PASSWORD (or _PASSWORD_FILE) and _DATABASE.

        Raises ValueError for an address or a database name that cannot be one.
        """
        values = os.environ if environment is None else environment
        password = values.get("SLUICEGATE_CLICKHOUSE_PASSWORD")
        if password is None and (path := values.get("SLUICEGATE_CLICKHOUSE_PASSWORD_FILE")):
            password = Path(path).read_text("utf-8").strip()
        return cls(
            url=values.get("SLUICEGATE_CLICKHOUSE_URL") or URL_DEFAULT,
            username=values.get("SLUICEGATE_CLICKHOUSE_USER") or USERNAME_DEFAULT,
            password=password or "",
            database=values.get("SLUICEGATE_CLICKHOUSE_DATABASE") or DATABASE_DEFAULT,
        )

    def connect(self, *, database: str | None = None) -> Client:
        """A client that may be shared by threads, with time-outs, whose inserts are written when they are acknowledged.

        Asks the server for its version, so it raises clickhouse_connect's ``Error`` where there is none.
        """
        for library in ("clickhouse_connect", "urllib3"):
            # They log each failed try; our callers say it themselves, once.
            logging.getLogger(library).setLevel(logging.CRITICAL)
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        return clickhouse_connect.get_client(
            host=parts.hostname,
            port=parts.port or (8443 if secure else 8123),
            secure=secure,
            username=self.username,
            password=self.password,
            database=database or self.database,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=ANSWER_TIMEOUT_S,
            autogenerate_session_id=False,  # a session takes one query at a time
            query_limit=0,
            # An acknowledged insert must be on disk, not in a server's buffer.
            settings={"async_insert": 0, "max_partitions_per_insert_block": 0},
        )
