"""How the API answers, as figures: bounded by the routes that there are."""

from __future__ import annotations

from typing import Any

from api.metrics import ApiCollector
from tests.api_app import HERON, READER, REVOKED, ApiApp


def scraped(api: ApiApp, name: str) -> dict[tuple[str, ...], float]:
    collector = ApiCollector(api.parts, (api.app.state.hub,), api.app.state.served)
    found: dict[tuple[str, ...], float] = {}
    for metric in collector.collect():
        for sample in metric.samples:
            if sample.name == name:
                found[tuple(value for label, value in sample.labels.items() if label != "le")] = sample.value
    return found


async def ask(api: ApiApp, secret: str | None, *paths: str, **options: Any) -> list[int]:
    async with api.client(secret) as client:
        return [(await client.get(path, **options)).status_code for path in paths]


async def test_answers_are_timed_by_the_template_of_their_route_and_never_by_an_address() -> None:
    api = ApiApp()
    own = "/v1/organizations/usage/api-keys"
    await ask(api, HERON, "/v1/organizations/usage", f"{own}/key_heron_1", f"{own}/key_finch_1", "/nothing/here")
    await ask(api, READER, "/v1/operator/organizations/org_heron", "/v1/operator/decisions/d-heron")
    assert scraped(api, "sluicegate_api_answer_seconds_count") == {
        ("/v1/organizations/usage", "2xx"): 1,
        (f"{own}/{{key_id}}", "2xx"): 1,
        (f"{own}/{{key_id}}", "4xx"): 1,
        ("none", "4xx"): 1,
        ("/v1/operator/organizations/{organization_id}", "2xx"): 1,
        ("/v1/operator/decisions/{decision_id}", "2xx"): 1,
    }


async def test_refusals_are_counted_by_audience_and_status() -> None:
    api = ApiApp()
    await ask(api, REVOKED, "/v1/organizations/usage", "/v1/operator/trail", "/v1/operator/nothing")
    async with api.client(READER) as reader:
        await reader.post("/v1/operator/accounts", content="")
    while 429 not in await ask(api, HERON, *["/v1/organizations/usage"] * 100):
        pass
    found = scraped(api, "sluicegate_api_refused_total")
    assert found["customer", "401"] == 1
    assert (found["operator", "401"], found["operator", "403"]) == (2, 1)
    assert found["customer", "429"] >= 1
