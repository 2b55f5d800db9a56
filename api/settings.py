"""The API's own settings, beside the workers' (``streams.settings``) and ClickHouse's (``clickhouse.connection``).

| variable | meaning | default |
|---|---|---|
| SLUICEGATE_API_LISTEN | ``host:port`` to serve on; port 0: a free one | 127.0.0.1:8080 |
| SLUICEGATE_API_OPERATORS_FILE | operators' credentials (docs/api.md); without it their routes are off | none |
| SLUICEGATE_API_OPERATORS_KAFKA_USERNAME | in Kafka for operators; with _PASSWORD or _PASSWORD_FILE | the process's |
| SLUICEGATE_NODE | the name under which the API's own requests are metered | the host's name |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from clickhouse.connection import ClickHouse
from sluicegate.brokers import Brokers
from streams.endpoint import ListenError, parse_listen
from streams.settings import Settings, SettingsError

LISTEN_DEFAULT: Final = "127.0.0.1:8080"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """See the module's table."""

    process: Settings
    """Kafka, topics, health, as of every process."""
    clickhouse: ClickHouse = field(default_factory=ClickHouse)
    host: str
    port: int
    operators_file: Path | None = None
    operators_brokers: Brokers
    """Kafka with the rights that operators need: a process that only serves customers has none to write accounts."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The settings in ``environment`` (default: the process's). Raises SettingsError."""
        values = os.environ if environment is None else environment
        listen = values.get("SLUICEGATE_API_LISTEN") or LISTEN_DEFAULT
        try:
            place = parse_listen(listen)
            clickhouse = ClickHouse.from_environment(values)
        except (ListenError, ValueError, OSError) as error:
            raise SettingsError(f"SLUICEGATE_API_LISTEN or ClickHouse: {error}") from None
        assert place is not None, "an address that is not empty"
        operators = values.get("SLUICEGATE_API_OPERATORS_FILE")
        process = Settings.from_environment(values)
        return cls(
            process=process,
            operators_brokers=_operators_brokers(values, process),
            clickhouse=clickhouse,
            host=place[0],
            port=place[1],
            operators_file=Path(operators) if operators else None,
        )


def _operators_brokers(values: Mapping[str, str], process: Settings) -> Brokers:
    """As the process's own, but for who we are there. Raises SettingsError."""
    own = {
        name: values[f"SLUICEGATE_API_OPERATORS_{name}"]
        for name in ("KAFKA_USERNAME", "KAFKA_PASSWORD", "KAFKA_PASSWORD_FILE")
        if values.get(f"SLUICEGATE_API_OPERATORS_{name}")
    }
    if not own:
        return process.brokers
    try:
        found = Brokers.from_environment({f"SLUICEGATE_{name}": value for name, value in own.items()})
    except (OSError, ValueError):
        raise SettingsError(
            "SLUICEGATE_API_OPERATORS_KAFKA_USERNAME needs SLUICEGATE_API_OPERATORS_KAFKA_PASSWORD or _PASSWORD_FILE"
        ) from None
    return replace(process.brokers, username=found.username, password=found.password)
