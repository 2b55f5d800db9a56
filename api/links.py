"""Which request follows another, with what of its answer: the links of the OpenAPI document (3.1, "Link Object").

A client that reads them finds its way from a list to its items, and from what was made to where it is seen or ended; so
do the tests that follow them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Link(NamedTuple):
    """After ``source`` comes ``target``, each as ``GET /v1/…``. Its path's parameters are the source's own where those
    have the same name; ``parameters`` are the others, as ``path.`` or ``query.`` and a runtime expression."""

    source: str
    target: str
    parameters: Mapping[str, str] = {}


_ORGANIZATION: Final = "/v1/operator/organizations/{organization_id}"
_DECISION: Final = "/v1/organizations/decisions/{decision_id}"
_WHY: Final = "/v1/operator/decisions/{decision_id}"
_DECISION_ID: Final = "path.decision_id"
_KEY: Final = f"{_ORGANIZATION}/keys/{{api_key_id}}"
_CATALOGUE: Final = "/v1/operator/catalogues/{version}"
_MEMBERS: Final = "/v1/operator/accounts/{account_id}/members"
_NEXT: Final = {"query.cursor": "$response.body#/next_cursor"}
_FIRST: Final = {"path.organization_id": "$response.body#/organizations/0/organization_id"}
_COMMANDS: Final = "/v1/operator/accounts/{account_id}/commands"
_OUTCOME: Final = {
    "path.account_id": "$response.body#/account_id",
    "query.command_id": "$response.body#/command_id",
}
_IN_PATH: Final = re.compile(r"\{(\w+)\}")
_ENDED: Final = {
    "/keys/{api_key_id}": "/revoke",
    "/grants/{grant_id}": "/revoke",
    "/boosts/{boost_id}": "/end",
    "/exemptions/{exemption_id}": "/end",
    "/budgets/{period}": "/remove",
}
"""What is put under an organization, and how it ends."""
_LOGS: Final = (
    *(f"GET /v1/operator/{what}" for what in ("trail", "decisions", "alerts", "rejects")),
    f"GET {_ORGANIZATION}/usage",
)
_LIST: Final = "GET /v1/operator/organizations"
_OF_AN_ORGANIZATION: Final = (
    f"GET {_ORGANIZATION}",
    f"PATCH {_ORGANIZATION}",
    f"GET {_ORGANIZATION}/plan",
    f"GET {_ORGANIZATION}/balances",
    f"GET {_ORGANIZATION}/usage",
    f"PUT {_ORGANIZATION}/pool",
    f"POST {_ORGANIZATION}/keys",
    f"POST {_ORGANIZATION}/corrections",
    f"PUT {_ORGANIZATION}/resource-counts",
    *(f"PUT {_ORGANIZATION}{path}" for path in _ENDED),
)

LINKS: Final = (
    Link("GET /v1/organizations/limits", f"GET {_DECISION}", {_DECISION_ID: "$response.body#/decisions/0/decision_id"}),
    Link("GET /v1/organizations/alerts", "GET /v1/organizations/alerts", _NEXT),
    Link(_LIST, _LIST, {"query.after": "$response.body#/next"}),
    Link("GET /v1/operator/blocks", f"GET {_WHY}", {_DECISION_ID: "$response.body#/blocks/0/decision_id"}),
    *(Link(log, log, {"query.cursor": "$response.body#/next"}) for log in _LOGS),
    Link("GET /v1/operator/catalogues", f"GET {_CATALOGUE}", {"path.version": "$response.body#/catalogues/0/version"}),
    Link(f"GET {_ORGANIZATION}", f"GET {_MEMBERS}", {"path.account_id": "$response.body#/organization/account_id"}),
    Link(_LIST, f"PUT {_ORGANIZATION}", _FIRST),
    *(Link(_LIST, target, _FIRST) for target in _OF_AN_ORGANIZATION),
    *(Link(f"PUT {_ORGANIZATION}", target) for target in _OF_AN_ORGANIZATION),
    *(Link(f"PUT {_ORGANIZATION}{path}", f"POST {_ORGANIZATION}{path}{end}") for path, end in _ENDED.items()),
    Link(f"POST {_ORGANIZATION}/keys", f"POST {_KEY}/revoke", {"path.api_key_id": "$response.body#/api_key_id"}),
    *(
        Link(f"{method} {_ORGANIZATION}{path}", f"GET {_COMMANDS}", _OUTCOME)
        for method, path in (("PUT", ""), ("PATCH", ""), ("PUT", "/pool"), *(("PUT", path) for path in _ENDED))
    ),
)


def add_links(document: dict[str, Any]) -> None:
    """Adds ``LINKS`` to the answers below 300 of their sources. Raises KeyError for a route that is not there."""
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    for link in LINKS:
        target = operations[link.target]
        own = set(_IN_PATH.findall(link.source)) & set(_IN_PATH.findall(link.target))
        parameters = {f"path.{name}": f"$request.path.{name}" for name in sorted(own)} | dict(link.parameters)
        made = {"operationId": target["operationId"], "parameters": parameters}
        for status, response in operations[link.source]["responses"].items():
            if status.startswith("2"):
                response.setdefault("links", {})[target["operationId"]] = made
