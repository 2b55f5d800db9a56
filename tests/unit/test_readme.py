"""What the README shows of a service works as it is written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluicegate import Gate, Sluicegate
from tests.gating import SECRET, heron
from tests.metering import Recorder

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SECTION = README.partition("## In a service")[2].partition("\n## ")[0]


async def test_the_readmes_service_is_gated_and_its_handlers_report_as_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    (report,) = re.findall(r"`(sluicegate\.current\(\)[^`]+)`", SECTION)
    for variable in [name for name in os.environ if name.startswith("SLUICEGATE_")]:
        monkeypatch.delenv(variable)

    async def searched(_: Request) -> Response:
        exec(report, names)
        return PlainTextResponse("found")

    names: dict[str, Any] = {
        "routes": [Route("/v1/search", searched, methods=["POST"]), Route("/v1/unnamed", searched, methods=["POST"])]
    }
    exec(block, names)
    wired, meter = names["sluicegate"], Recorder()
    assert isinstance(wired, Sluicegate)
    wired.gate, wired.publisher = Gate(heron()), meter  # type: ignore[assignment]  # no broker: all that is used of it

    transport = httpx.ASGITransport(app=names["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.post("/v1/search")).status_code == 401
        client.headers["Authorization"] = f"Bearer {SECRET}"
        assert (await client.post("/v1/search")).status_code == 200
        assert (await client.post("/v1/unnamed")).status_code == 404
    assert [(event["operation"], event["quantities"]) for event in meter.events] == [("search.knn", {"tokens": 1_730})]
