"""The audit's settings: environment variables ``SLUICEGATE_AUDIT_…``, beside those of ``streams.settings`` (broker,
topics, SLUICEGATE_HEALTH_LISTEN) and of ``clickhouse.connection``.

| variable | meaning | default |
|---|---|---|
| SLUICEGATE_AUDIT_INTERVAL_S | seconds from one look to the next | 10 |
| SLUICEGATE_AUDIT_SHARE_PERCENT | share of the time that ClickHouse may be kept busy with looks at the past | 10 |
| SLUICEGATE_AUDIT_ROLL_PATIENCE_S | seconds of a working sink after which hours and days must follow minutes | 300 |
| SLUICEGATE_AUDIT_FORECAST_INTERVAL_S | seconds from one look at whose credits run out to the next | 300 |
| SLUICEGATE_AUDIT_OPEN_CELLS_MAX | open cells of one state partition; above it the audit ends and says so | 600000 |
| SLUICEGATE_AUDIT_EVICTED_CELLS_MAX | evicted cells of one state partition whose names are remembered | 100000 |
| SLUICEGATE_AUDIT_SUMS_MAX | sums by organization and time; above it the audit ends and says so | 4000000 |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Self

from streams.settings import SettingsError

_PREFIX: Final = "SLUICEGATE_AUDIT_"
_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "interval_s": (0.1, 86_400),
    "share_percent": (0.1, 100),
    "roll_patience_s": (1, 86_400),
    "forecast_interval_s": (0.1, 86_400),
    "open_cells_max": (1, 10**8),
    "evicted_cells_max": (0, 10**8),
    "sums_max": (1, 10**9),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """See the module's table; field names are the variables' in lower case."""

    interval_s: float = 10.0
    share_percent: float = 10.0
    roll_patience_s: float = 300.0
    forecast_interval_s: float = 300.0
    open_cells_max: int = 600_000
    evicted_cells_max: int = 100_000
    sums_max: int = 4_000_000

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The settings in ``environment`` (default: the process's). Raises SettingsError."""
        values = os.environ if environment is None else environment
        settings: dict[str, float | int] = {}
        for field in fields(cls):
            variable = _PREFIX + field.name.upper()
            if (text := values.get(variable)) is None:
                continue
            low, high = _BOUNDS[field.name]
            try:
                value = int(text) if field.name.endswith("_max") else float(text)
                if not low <= value <= high:
                    raise ValueError
            except ValueError:
                raise SettingsError(f"{variable} is {text!r}, and must be a number from {low:g} to {high:g}") from None
            settings[field.name] = value
        return cls(**settings)  # type: ignore[arg-type]  # each value has its field's type by now
