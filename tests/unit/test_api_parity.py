"""The operators' routes do what the command line does, and say so: no drift between the two."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from api.routes.operator.bodies import OF_THE_REQUEST, body_of
from api.routes.operator.commands import ROUTES, kind_of
from sluicegate.cli.app import app as command_line
from sluicegate.cli.command import COMMANDS
from sluicegate_schemas.accounts import AnyCommand
from tests.api_app import ApiApp

HERE = "/organizations/{organization_id}"


@pytest.fixture
def api() -> ApiApp:
    return ApiApp()


def test_every_kind_of_command_has_a_route() -> None:
    assert [kind_of(route.command) for route in ROUTES] == [kind_of(command) for command in get_args(AnyCommand)]


LOOKS_AND_FILES = {
    "key new": (f"POST {HERE}/keys",), "pool put": (f"PUT {HERE}/pool",),
    "catalog check": ("POST /catalogues/check",), "catalog diff": ("POST /catalogues/diff",),
    "catalog publish": ("POST /catalogues",), "org publish": ("POST /accounts",),
    "org list": ("GET /organizations",), "org show": (f"GET {HERE}",), "plan show": (f"GET {HERE}/plan",),
    "pool show": ("GET /accounts/{account_id}/members",), "usage": (f"GET {HERE}/usage",),
    "fit": (f"POST {HERE}/plan-fit",), "why": ("GET /decisions/{decision_id}",), "doctor": ("GET /doctor",),
    "tail": ("GET /decisions", "GET /alerts", "GET /rejects", "GET /trail"),
}  # fmt: skip
"""By which routes the API does what a command does that is none of ``ROUTES``."""
COMMANDS_ALONE = {"replay"}


def test_every_command_of_the_command_line_has_a_route_or_is_named_as_having_none(api: ApiApp) -> None:
    assert command_line
    by_table = {route.cli: (f"{route.method} {HERE}{route.path}",) for route in ROUTES}
    done = LOOKS_AND_FILES | by_table
    assert set(COMMANDS) == set(done) | COMMANDS_ALONE
    document = api.app.openapi()
    there = {
        f"{method.upper()} {path.removeprefix('/v1/operator')}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    for name, routes in done.items():
        assert routes, name
        assert {route.replace(":path", "") for route in routes} <= there, name


def test_the_page_names_every_route_of_operators_and_what_only_the_command_line_does(api: ApiApp) -> None:
    page = (Path(__file__).parents[2] / "docs/api.md").read_text("utf-8")
    for name in COMMANDS_ALONE:
        assert f"`{name}`" in page
    named = set(re.findall(r"`([A-Z]+ /v1/operator[^`?]*)", re.sub(r"\{\w+\}", "{}", page)))
    changes = re.compile(r"/v1/operator/organizations/\{organization_id\}(?!/plan|/balances|/usage)")
    for path, methods in api.app.openapi()["paths"].items():
        if path.startswith("/v1/operator") and not changes.match(path):
            assert {f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}" for method in methods} <= named, path


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: kind_of(route.command))
def test_a_body_has_all_fields_that_its_path_and_the_request_do_not_give(route: Any) -> None:
    in_path = [name for name in route.command.model_fields if f"{{{name}" in route.path]
    body = {*body_of(route.command, without=in_path).model_fields}
    assert body.isdisjoint(OF_THE_REQUEST)
    assert {*route.command.model_fields} - OF_THE_REQUEST - {*in_path} == body
