"""Which operation a request is: a table of routes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sluicegate_schemas.bounds import OPERATION_PATTERN, full_match

from .errors import ConfigurationError

_OPERATION: Final = full_match(OPERATION_PATTERN)
_ROUTE: Final = re.compile(r"([A-Z]+) (/\S*)\Z", re.ASCII)
_PARAMETER: Final = re.compile(r"\{[a-z_][a-z0-9_]*(:path)?\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Operation:
    """A metered operation; ``charges`` are the operations that it is going to be charged for besides, so that a credit
    block closes it too. Raises ConfigurationError for a name that is none."""

    name: str
    charges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.charges):
            if not _OPERATION.match(name):
                raise ConfigurationError(f"{name!r} is not an operation: lower-case words joined by dots")


Routes = Mapping[str, str | Operation]
"""``{"POST /v1/search": "search.knn", "GET /v1/documents/{id}": "documents.get"}``."""
FindOperation = Callable[[Mapping[str, Any]], Operation | None]
"""Takes an ASGI scope; None: the request is neither gated nor metered."""


def by_routes(routes: Routes) -> FindOperation:
    """Finds operations by method and path. ``{name}`` stands for one segment, ``{name:path}`` for the rest; a path
    without parameters wins, then the first that fits. Raises ConfigurationError, naming the route."""
    exact: dict[tuple[str, str], Operation] = {}
    patterns: list[tuple[str, re.Pattern[str], Operation]] = []
    for route, operation in routes.items():
        match = _ROUTE.match(route)
        if match is None:
            raise ConfigurationError(f"route {route!r} must look like 'GET /path/{{name}}'")
        found = Operation(operation) if isinstance(operation, str) else operation
        method, path = match[1], match[2]
        if "{" in path:
            patterns.append((method, _pattern(path), found))
        else:
            exact[method, path] = found

    def find(scope: Mapping[str, Any]) -> Operation | None:
        method, path = scope["method"], scope["path"]
        found = exact.get((method, path))
        if found is not None:
            return found
        for wanted, pattern, operation in patterns:
            if wanted == method and pattern.match(path):
                return operation
        return None

    return find


def _pattern(path: str) -> re.Pattern[str]:
    parts: list[str] = []
    at = 0
    for parameter in _PARAMETER.finditer(path):
        parts += [re.escape(path[at : parameter.start()]), ".+" if parameter[1] else "[^/]+"]
        at = parameter.end()
    rest = path[at:]
    if "{" in rest or "}" in rest:
        raise ConfigurationError(f"route {path!r}: a parameter looks like {{name}} or {{name:path}}")
    return re.compile("".join([*parts, re.escape(rest)]) + r"\Z", re.DOTALL)
