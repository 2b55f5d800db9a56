"""What operators see of the log, and the files that they hand in."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluicegate.operator.logs import LogRecord
from sluicegate.operator.tailed import READERS, TailedRecord, about_whom, read_record
from sluicegate_schemas.accounts import OrganizationPut
from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.outputs import Balance
from tests.api_app import READER, WRITER, ApiApp
from tests.api_world import alert_record, balance_record
from tests.gating import NOW_MS

ORGANIZATION = "/v1/operator/organizations/org_heron"
TOML = {"content-type": "application/toml"}
CATALOGUE = (Path(__file__).parents[2] / "catalogue/default.toml").read_text("utf-8")
FILE = """issued_at = 2026-01-01T00:00:00Z
issued_by = "wim"

[[organizations]]
id = "org_heron"
tier = "team"

[[organizations]]
id = "org_tern"
account = "{account}"
tier = "enterprise"
"""


@pytest.fixture
def api() -> ApiApp:
    return ApiApp()


@pytest.fixture
async def reader(api: ApiApp) -> AsyncIterator[httpx.AsyncClient]:
    async with api.client(READER) as client:
        yield client


@pytest.fixture
async def writer(api: ApiApp) -> AsyncIterator[httpx.AsyncClient]:
    async with api.client(WRITER) as client:
        yield client


def tailed(offset: int) -> TailedRecord:
    return TailedRecord(
        topic="sluicegate.alerts", partition=0, offset=offset, logged_at=datetime.now(UTC), readable=True, record={}
    )


# ---- logs ----


@pytest.mark.parametrize("what", ["decisions", "alerts", "rejects"])
async def test_an_operator_pages_through_what_the_workers_said(
    what: str, api: ApiApp, reader: httpx.AsyncClient
) -> None:
    api.desk.tailed[what] = [tailed(offset) for offset in range(5)]
    seen: list[int] = []
    query: dict[str, Any] = {"limit": 2}
    while query.get("cursor", "") is not None:
        page = (await reader.get(f"/v1/operator/{what}", params=query)).json()
        seen += [one["offset"] for one in page["records"]]
        query["cursor"] = page["next"]
    assert seen == [4, 3, 2, 1, 0]
    assert (await reader.get(f"/v1/operator/{what}", params={"limit": 201})).status_code == 422
    assert (await reader.get(f"/v1/operator/{what}", params={"cursor": "W10"})).status_code == 422


async def test_a_look_at_one_organization_is_about_its_keys_too(api: ApiApp, reader: httpx.AsyncClient) -> None:
    await reader.get("/v1/operator/alerts", params={"organization_id": "org_heron"})
    await reader.get("/v1/operator/alerts")
    assert api.desk.asked_about == [{"org_heron", "key_heron_1", "key_heron_2"}, None]


def test_a_record_that_cannot_be_read_shows_its_place_alone() -> None:
    _, read = READERS["alerts"]
    record = LogRecord(
        topic="t", partition=1, offset=2, timestamp=3, timestamp_type=0, key=None, value=b'{"secret": 1}',
        checksum=None, serialized_key_size=0, serialized_value_size=0, headers=(),
    )  # fmt: skip
    shown, content = read_record(record, read)
    assert (content, shown.readable, shown.record, shown.offset) == (None, False, None, 2)


def test_an_alert_of_an_account_is_about_its_root() -> None:
    _, read = READERS["alerts"]
    assert about_whom(read(alert_record("a1"))) == {"org_heron"}


# ---- months that are kept ----


async def test_usage_has_all_kept_months_and_labels_a_page_at_a_time(api: ApiApp, reader: httpx.AsyncClient) -> None:
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("account", "org_heron", {}),
        ("organization", "org_heron", {}),
        ("key", "key_heron_1", {}),
        ("label", "org_heron", {"label": "pipeline=…", "organization_id": "org_heron"}),
        ("organization", "org_finch", {}),
    ]
    for month in ("2025-11", "2026-03"):
        for kind, name, more in kinds:
            _, value = balance_record(kind, name, month=month, **more)
            api.desk.balances.append(Balance.model_validate_json(value))
    seen: list[tuple[str, str]] = []
    query: dict[str, Any] = {"limit": 3}
    while query.get("cursor", "") is not None:
        page = (await reader.get(f"{ORGANIZATION}/usage", params=query)).json()
        seen += [(one["month"], one["kind"]) for one in page["balances"]]
        query["cursor"] = page["next"]
    each = ["account", "key", "label", "organization"]
    assert seen == [(month, kind) for month in ("2025-11", "2026-03") for kind in each]
    one = (await reader.get(f"{ORGANIZATION}/usage", params={"month": "2025-11"})).json()["balances"]
    assert {balance["month"] for balance in one} == {"2025-11"}
    assert (await reader.get(f"{ORGANIZATION}/usage", params={"cursor": "eyJ4IjoxfQ"})).status_code == 422
    assert (await reader.get("/v1/operator/organizations/org_none/usage")).status_code == 404


# ---- files ----


async def test_a_file_of_accounts_is_published_once(api: ApiApp, writer: httpx.AsyncClient) -> None:
    body = FILE.format(account="org_heron")
    first = await writer.post("/v1/operator/accounts", content=body, headers=TOML)
    again = await writer.post("/v1/operator/accounts", content=body, headers=TOML)
    assert first.json() == {"commands": 2, "commands_known": 0}
    assert again.json() == {"commands": 0, "commands_known": 2}
    puts = [one for one in api.desk.log if isinstance(one, OrganizationPut)]
    assert [(one.organization_id, one.account_id, one.issued_by) for one in puts] == [
        ("org_heron", "org_heron", "wim"),
        ("org_tern", "org_heron", "wim"),
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (FILE.format(account="org_heron").replace('"wim"', '"eve"'), "issued_by"),
        (FILE.format(account="org_heron").replace("team", "gold"), "organizations[0].tier"),
        (FILE.format(account="org_heron") + "x", ""),
    ],
)
async def test_a_file_that_is_wrong_says_where_and_nothing_is_sent(
    body: str, field: str, api: ApiApp, writer: httpx.AsyncClient
) -> None:
    answer = await writer.post("/v1/operator/accounts", content=body, headers=TOML)
    assert answer.status_code == 422, answer.text
    assert field in answer.json()["fields"][0]["field"]
    assert api.desk.log == []


async def test_a_file_moves_no_organization_to_another_account(api: ApiApp, writer: httpx.AsyncClient) -> None:
    body = FILE.format(account="org_heron").replace('id = "org_tern"', 'id = "org_finch"')
    answer = await writer.post("/v1/operator/accounts", content=body, headers=TOML)
    assert (answer.status_code, api.desk.log) == (422, [])


async def test_who_may_only_read_publishes_no_file(api: ApiApp, reader: httpx.AsyncClient) -> None:
    body = FILE.format(account="org_heron")
    assert (await reader.post("/v1/operator/accounts", content=body, headers=TOML)).status_code == 403
    assert api.desk.log == []


async def test_a_month_is_held_against_a_plan_that_is_not_published(api: ApiApp, reader: httpx.AsyncClient) -> None:
    body = CATALOGUE.replace("version = 1", "version = 7", 1)
    fit = await reader.post(f"{ORGANIZATION}/plan-fit", params={"month": "2026-02"}, content=body, headers=TOML)
    assert (fit.json()["plan_version"], fit.json()["month"]) == (7, "2026-02")
    assert (await reader.post(f"{ORGANIZATION}/plan-fit", content="x", headers=TOML)).status_code == 422
    assert (await reader.post(f"{ORGANIZATION}/plan-fit", json={})).status_code == 415
    assert [*api.desk.published] == [1]


# ---- the doctor ----


async def test_the_doctor_says_what_is_wrong(api: ApiApp, reader: httpx.AsyncClient) -> None:
    said = (await reader.get("/v1/operator/doctor")).json()
    assert (said["healthy"], [one["check"] for one in said["findings"]]) == (True, ["clickhouse", "schema"])
    del api.history.says["selected"]
    said = (await reader.get("/v1/operator/doctor")).json()
    assert (said["healthy"], said["findings"][0]["status"]) == (False, "error")
    assert json.dumps(said).count("does not answer") == 1


# ---- catalogues ----


async def test_a_published_catalogue_says_who_published_it_and_when(api: ApiApp, writer: httpx.AsyncClient) -> None:
    effective = from_epoch_ms(NOW_MS) + timedelta(days=1)
    body = re.sub(r"(?m)^effective_at = .*$", f"effective_at = {effective.isoformat()}", CATALOGUE)
    body = body.replace("version = 1", "version = 7", 1)
    sent = await writer.post("/v1/operator/catalogues", content=body, headers=TOML)
    assert sent.json()["published"] is True, sent.text
    first, second = (await writer.get("/v1/operator/catalogues")).json()["catalogues"]
    assert (first["published_by"], first["in_force"]) == ("ada", True)
    assert (second["published_by"], second["in_force"]) == ("wim", False)
    assert datetime.fromisoformat(second["published_at"]) == from_epoch_ms(NOW_MS)
