"""Which operation a request is: a table of routes, and the path that both it and the framework go by."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sluicegate_schemas.bounds import OPERATION_PATTERN, full_match

from .errors import ConfigurationError

_OPERATION: Final = full_match(OPERATION_PATTERN)
_ROUTE: Final = re.compile(r"([A-Z]+) (/\S*)\Z", re.ASCII)
_PARAMETER: Final = re.compile(r"\{[a-z_][a-z0-9_]*(:path)?\}", re.ASCII)
_AMBIGUOUS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]|(?:^|/)\.\.?(?:/|\Z)")
_Named = TypeVar("_Named")


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
"""``{"POST /v1/search": "search.knn", "GET /v1/documents/{id}": "documents.get"}``. GET covers HEAD."""
Scope = Mapping[str, Any]
"""An ASGI scope of the type "http" or "websocket"."""
FindOperation = Callable[[Scope], Operation | None]
"""None: the request is no operation, and is refused unless its path is open."""
IsOpen = Callable[[Scope], bool]


def by_routes(routes: Routes) -> FindOperation:
    """Finds operations by method and ``route_path``. ``{name}`` stands for one segment, ``{name:path}`` for the rest; a
    path without parameters wins, then the first that fits. Paths are compared as they are: another case, a further or a
    missing slash is another path. Raises ConfigurationError, naming the route."""
    return _finder(
        (route, Operation(operation) if isinstance(operation, str) else operation)
        for route, operation in routes.items()
    )


def open_paths_of(open_paths: Iterable[str]) -> IsOpen:
    """Finds the paths that are open on purpose: ``"/health"`` for GET and HEAD, ``"POST /hooks/{name}"`` with another
    method; written as in ``by_routes``. Raises ConfigurationError, naming the path."""
    if isinstance(open_paths, str):
        raise ConfigurationError(f"open_paths is the text {open_paths!r}, but must be a list or tuple of paths")
    find = _finder((path if " " in path else f"GET {path}", True) for path in open_paths)
    return lambda scope: find(scope) is not None


def route_path(scope: Scope) -> str | None:
    """The path that a framework routes by: percent-decoded, without the ``root_path`` that the application is mounted
    at (ASGI, "HTTP connection scope").

    None for a path that frameworks do not agree on: one with a control character or line separator (the end of a
    regular expression also matches before a newline), or with a dot segment, which clients resolve before they send it
    (RFC 3986, section 5.2.4).
    """
    path: str = scope["path"]
    if _AMBIGUOUS.search(path):
        return None
    root_path: str = scope.get("root_path", "")
    beneath = path.removeprefix(root_path)
    return beneath if beneath.startswith("/") or path == root_path else path


def _finder(routes: Iterable[tuple[str, _Named]]) -> Callable[[Scope], _Named | None]:
    exact: dict[tuple[str, str], _Named] = {}
    patterns: list[tuple[str, re.Pattern[str], _Named]] = []
    for route, named in routes:
        match = _ROUTE.match(route)
        if match is None:
            raise ConfigurationError(f"route {route!r} must look like 'GET /path/{{name}}'")
        method, path = match[1], match[2]
        if method == "HEAD":
            raise ConfigurationError(f"route {route!r}: name the GET route, which covers HEAD")
        if "{" in path or "}" in path:
            patterns.append((method, _pattern(path), named))
        else:
            exact[method, path] = named

    def find(scope: Scope) -> _Named | None:
        path = route_path(scope)
        if path is None:
            return None
        method = scope.get("method", "GET")
        method = "GET" if method == "HEAD" else method
        found = exact.get((method, path))
        if found is not None:
            return found
        for wanted, pattern, named in patterns:
            if wanted == method and pattern.match(path):
                return named
        return None

    return find


def _pattern(path: str) -> re.Pattern[str]:
    parts: list[str] = []
    at = 0
    for parameter in _PARAMETER.finditer(path):
        parts += [re.escape(path[at : parameter.start()]), ".*" if parameter[1] else "[^/]+"]
        at = parameter.end()
    rest = path[at:]
    if "{" in rest or "}" in rest:
        raise ConfigurationError(f"route {path!r}: a parameter looks like {{name}} or {{name:path}}")
    return re.compile("".join([*parts, re.escape(rest)]) + r"\Z", re.DOTALL)
