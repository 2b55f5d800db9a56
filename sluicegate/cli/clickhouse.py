"""Asks ClickHouse over its HTTP face, with nothing but httpx: the sink's own client is not part of this package."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from ..errors import ClickHouseError, ConfigurationError

ANSWER_TIMEOUT_S: Final = 10.0
_ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
_SAID_MAX: Final = 300
_DATABASE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class ClickHouse:
    """Where ClickHouse is: SLUICEGATE_CLICKHOUSE_URL, _USER, _PASSWORD (or _PASSWORD_FILE) and _DATABASE."""

    def __init__(self, url: str, username: str, password: str, database: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ConfigurationError("SLUICEGATE_CLICKHOUSE_URL must be http://host:port or https://host:port")
        if not _DATABASE.fullmatch(database):
            raise ConfigurationError("SLUICEGATE_CLICKHOUSE_DATABASE must be a plain identifier of 1 to 63 signs")
        self.url = url
        self._headers = {"X-ClickHouse-User": username, "X-ClickHouse-Key": password}
        self._database = database

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """By the same variables and defaults as the sink's. Raises ConfigurationError."""
        password = environment.get("SLUICEGATE_CLICKHOUSE_PASSWORD")
        if password is None and (path := environment.get("SLUICEGATE_CLICKHOUSE_PASSWORD_FILE")):
            try:
                password = Path(path).read_text("utf-8").strip()
            except (OSError, UnicodeError) as error:
                raise ConfigurationError(f"SLUICEGATE_CLICKHOUSE_PASSWORD_FILE cannot be read: {error}") from None
        return cls(
            environment.get("SLUICEGATE_CLICKHOUSE_URL") or "http://127.0.0.1:8123",
            environment.get("SLUICEGATE_CLICKHOUSE_USER") or "default",
            password or "",
            environment.get("SLUICEGATE_CLICKHOUSE_DATABASE") or "sluicegate",
        )

    async def rows(
        self,
        statement: str,
        parameters: Mapping[str, str] | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> list[dict[str, Any]]:
        """The rows that ``statement`` selects; ``{name:Type}`` in it are ``parameters``. Raises ClickHouseError."""
        asked = {f"param_{name}": value for name, value in (parameters or {}).items()}
        asked |= {"database": self._database, "output_format_json_quote_64bit_integers": "0"}
        try:
            async with httpx.AsyncClient(timeout=ANSWER_TIMEOUT_S, trust_env=False, transport=transport) as client:
                answer = await client.post(
                    self.url, params=asked, content=f"{statement} FORMAT JSONEachRow", headers=self._headers
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClickHouseError(f"does not answer: {error or type(error).__name__}") from None
        if answer.status_code != 200:
            raise ClickHouseError(f"refuses the question ({answer.status_code}): {answer.text[:_SAID_MAX].strip()}")
        try:
            if len(answer.content) > _ANSWER_BYTES_MAX:
                raise ValueError
            return [json.loads(line) for line in answer.text.split("\n") if line]
        except ValueError:
            raise ClickHouseError("answers something that is no row") from None
