"""Limits as files write them: plans and organizations alike."""

from typing import Any, Final, get_args

from .toml_file import Path, TomlFile
from .usage import ResourceName

NO_LIMIT: Final = ("custom", "unlimited")
"""What a file says where a record has null."""


def with_limits(file: TomlFile, table: dict[str, Any], path: Path) -> dict[str, Any]:
    """``table`` with its quotas and failure modes as records have them.

    Quotas may be "unlimited" one by one or all at once; a failure mode without an allowance may be its name alone.
    """
    converted = dict(table)
    quotas = converted.get("quotas")
    if quotas in NO_LIMIT:
        converted["quotas"] = dict.fromkeys(get_args(ResourceName))
    elif isinstance(quotas, dict):
        converted["quotas"] = {name: None if value in NO_LIMIT else value for name, value in quotas.items()}
    if "failure_modes" in converted:
        modes = file.table(converted["failure_modes"], (*path, "failure_modes"))
        converted["failure_modes"] = {
            name: {"mode": value} if isinstance(value, str) else value for name, value in modes.items()
        }
    return converted
