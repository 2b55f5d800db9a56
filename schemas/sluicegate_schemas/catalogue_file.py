"""A catalogue as TOML.

It has the fields of ``catalogue.Catalogue``, with ``credits…`` for ``credits_micro…``; a plan's limit may be
``"custom"`` or ``"unlimited"``. Beside them ``free_operations`` lists what costs nothing, by category, and ``creates``
what makes resources, by resource.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import TypeAdapter

from .catalogue import Catalogue
from .limits import CATEGORIES
from .limits_file import NO_LIMIT, with_limits
from .toml_file import Path, TomlFile, shown
from .usage import ResourceName

RENAMED: Final = {
    "credits": "credits_micro",
    "credits_per_month": "credits_micro_per_month",
    "credits_default": "credits_micro_default",
    "credits_min": "credits_micro_min",
    "credits_max": "credits_micro_max",
    "credits_above": "credits_micro_above",
    "credits_reserved": "credits_micro_reserved",
}
_PRICES: Final = ("credits", "credits_default", "credits_min", "credits_max", "credits_above")
_CATALOGUE: Final = TypeAdapter(Catalogue)


def load_catalogue(text: str) -> Catalogue:
    """The catalogue that the TOML ``text`` holds. Raises FileError."""
    return read_catalogue(text)[0]


def read_catalogue(text: str) -> tuple[Catalogue, TomlFile]:
    """The catalogue that the TOML ``text`` holds, and the file, which knows on which line what stands. Raises
    FileError."""
    file = TomlFile(text, RENAMED)
    content = dict(file.content)
    free, creates = content.pop("free_operations", {}), content.pop("creates", {})
    if isinstance(plans := content.get("plans"), dict):
        content["plans"] = {tier: _plan(file, plan, ("plans", tier)) for tier, plan in plans.items()}
    if isinstance(priced := content.get("operations", {}), dict):
        operations = {name: _entry(file, entry, ("operations", name)) for name, entry in priced.items()}
        operations.update(_free(file, free, operations))
        _create(file, creates, operations)
        content["operations"] = operations
    return file.read(_CATALOGUE, content), file


def _plan(file: TomlFile, plan: object, path: Path) -> dict[str, Any]:
    """One plan; what is "custom" is null in the record. Nothing is custom by being left out."""
    table = with_limits(file, file.table(plan, path), path)
    open_ended = {name for name, value in table.items() if isinstance(value, str) and value in NO_LIMIT}
    converted = file.credits(
        {name: value for name, value in table.items() if name not in open_ended}, path, ["credits_per_month"]
    )
    return converted | {RENAMED.get(name, name): None for name in open_ended}


def _entry(file: TomlFile, entry: object, path: Path) -> dict[str, Any]:
    """One operation of the rate card with its prices in micro-credits; storage has no category."""
    converted = {"category": None, **file.credits(entry, path, ["credits_reserved"])}
    if "price" in converted:
        at = (*path, "price")
        price = file.credits(converted["price"], at, _PRICES)
        if isinstance(models := price.get("models"), dict):
            price["models"] = {name: file.credits_value(value, (*at, "models", name)) for name, value in models.items()}
        if isinstance(steps := price.get("steps"), list):
            price["steps"] = [file.credits(step, (*at, "steps", n), ["credits"]) for n, step in enumerate(steps)]
        converted["price"] = price
    return converted


def _free(file: TomlFile, free: object, priced: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """The operations that ``free_operations`` lists by category."""
    if not isinstance(free, dict):
        file.fail(("free_operations",), "must be a table of lists, by category")
    entries: dict[str, dict[str, Any]] = {}
    for category, names in free.items():
        path: Path = ("free_operations", category)
        if category not in CATEGORIES:
            file.fail(path, f"must be a category: {', '.join(CATEGORIES)}")
        for name in _operations(file, names, path):
            if name in priced or name in entries:
                file.fail(path, f"lists {shown(name)}, which is given elsewhere too")
            entries[name] = {"category": category}
    return entries


def _create(file: TomlFile, creates: object, operations: dict[str, dict[str, Any]]) -> None:
    """Marks the operations that ``creates`` lists by resource."""
    if not isinstance(creates, dict):
        file.fail(("creates",), "must be a table of lists, by resource")
    for resource, names in creates.items():
        path: Path = ("creates", resource)
        if resource not in get_args(ResourceName):
            file.fail(path, f"must be a resource: {', '.join(get_args(ResourceName))}")
        for name in _operations(file, names, path):
            if name not in operations:
                file.fail(path, f"lists {shown(name)}, which is no operation of this catalogue")
            if "creates" in operations[name]:
                file.fail(path, f"lists {shown(name)}, which creates something else too")
            operations[name]["creates"] = resource


def _operations(file: TomlFile, names: object, path: Path) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        file.fail(path, "must be a list of operations")
    return names
