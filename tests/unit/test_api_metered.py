"""No spelling of a path reads usage past the gate: what is answered with data is metered and limited."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from api.app import CUSTOMERS
from api.metered import OPERATIONS, STREAM
from tests.api_app import FINCH, HERON, ApiApp
from tests.api_world import World

REQUESTS = 60
FREE_BURST = 20


def test_beyond_its_limit_a_key_is_refused_and_every_request_is_an_event() -> None:
    api = ApiApp()
    statuses = [api.get("/v1/organizations/usage", FINCH).status_code for _ in range(REQUESTS)]
    assert statuses == [200] * FREE_BURST + [429] * (REQUESTS - FREE_BURST)
    assert len(api.meter.events) == REQUESTS


@pytest.mark.parametrize(
    "path",
    [
        "/v1/organizations%0a",
        "/v1/organizations%0A",
        "/v1/organizations/usage%0A",
        "/v1/organizations/usage%0D",
        "/v1/organizations/usage%0A%0A",
        "/v1/organizations/usage%C2%85",
        "/v1/organizations/usage%E2%80%A8",
        "/v1/organizations/usage/series%0A",
        "/v1/organizations/usage/labels%0A",
        "/v1/organizations/usage/api-keys/key_finch_1%0A",
        "/v1/organizations/limits%0A",
        "/v1/organizations/projection%0A",
        "/v1/organizations/alerts%0A",
        "/v1/organizations/sla%0A",
        "/v1/organizations/live%0A",
        "/v1/organizations/decisions/d-finch%0A",
        "/v1/organizations/decisions/a/%2e%2e/b",
        "/v1/organizations/%2e/usage",
        "/v1/organizations/",
        "/v1/organizations/usage/",
        "/v1/organizations//usage",
        "/v1/organizations/nothing",
        "/health%0A",
        "/openapi.json%0A",
    ],
)
def test_a_path_that_names_nothing_is_answered_404_and_asks_nobody(path: str) -> None:
    api = ApiApp()
    answers = [api.get(path, secret) for secret in (FINCH, HERON, None)]
    assert [one.status_code for one in answers] == [404, 404, 404]
    assert {one.content for one in answers} == {answers[0].content}
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert (api.meter.events, api.history.asked) == ([], [])


def test_it_is_so_without_a_gate_too() -> None:
    assert World(gated=False).get("/v1/organizations/usage%0A").status_code == 404


def test_every_route_of_a_customer_is_an_operation_but_the_stream() -> None:
    routes = {
        f"{method} {route.path}"
        for room in CUSTOMERS
        for route in room.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert routes == {*OPERATIONS, f"GET {STREAM}"}


def test_another_method_is_told_that_there_is_none() -> None:
    assert World().request("POST", "/v1/organizations/usage").status_code == 405
