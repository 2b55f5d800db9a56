"""Those who call a metered service over HTTP: with the client kit, and with what other libraries have of their own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
import requests
import urllib3

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka
from tests.api_process import secret_of
from tests.bench.callers import CALLERS, PATH, paced, section, waiting
from tests.example_service import ExampleService
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.processes, pytest.mark.timeout(400)]

CALLS: Final = 900
"""Of which 600 are let in at once; ``make callers`` makes 5,000, in 8 minutes, and holds them to 1 % and 95 %."""
OF_ALLOWED_PERCENT_MIN: Final = 80.0
"""So early: callers that all began at once find their rate by and by."""
FREE_CALLS: Final = 25
"""Of a FREE key, whose burst is 20."""


class Running(NamedTuple):
    pipeline: Pipeline
    service: ExampleService


@pytest.fixture(scope="module")
def running(kafka: Kafka, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The example service, and a worker that decides."""
    folder = tmp_path_factory.mktemp("callers")
    pipeline = Pipeline(kafka, clickhouse, f"t{secrets.token_hex(5)}", folder)
    service = ExampleService(pipeline.environment(), folder)
    try:
        asyncio.run(pipeline.start())
        service.start("key_heron_1", "key_heron_2", "key_finch_1", "key_magpie_burst")
        yield Running(pipeline, service)
    finally:
        service.process.kill()
        pipeline.close()


@pytest.mark.contract("6.3")
async def test_twenty_callers_with_the_kit_are_hardly_refused_and_leave_little_unused_and_without_it_they_are(
    running: Running,
) -> None:
    kit, plain = paced(), waiting()
    url = running.service.url
    await asyncio.gather(kit.call(url, CALLS), plain.call(url, CALLS))
    print(section([kit, plain], "a test"))
    assert kit.finished == plain.finished == {200: CALLS}
    assert kit.answers[429] <= CALLERS, "each may run into the limit once, before it knows how many there are"
    assert kit.of_allowed_percent >= OF_ALLOWED_PERCENT_MIN, kit
    assert plain.answers[429] > 0.2 * CALLS > 5 * CALLERS, plain


@pytest.mark.contract("3.23")
def test_urllib3_comes_back_by_itself_when_it_was_told_to(running: Running) -> None:
    with urllib3.PoolManager(headers={"Authorization": f"Bearer {secret_of('key_finch_1')}"}) as pool:
        answers = [pool.request("GET", running.service.url + PATH) for _ in range(FREE_CALLS)]
    assert {answer.status for answer in answers} == {200}
    assert {retry.status for answer in answers for retry in answer.retries.history} == {429}


@pytest.mark.contract("3.23")
@pytest.mark.parametrize(
    ("method", "path", "retries"),
    [("GET", PATH, 5), ("POST", "/v1/search/knn", urllib3.Retry(5, allowed_methods=None))],
    ids=["a number", "any method"],
)
def test_requests_comes_back_when_it_was_told_to_as_soon_as_it_may_try_again(
    running: Running, method: str, path: str, retries: int | urllib3.Retry
) -> None:
    began = time.monotonic()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {secret_of('key_magpie_burst')}"
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        answers = [session.request(method, running.service.url + path, timeout=30) for _ in range(FREE_CALLS)]
    refusals = [retry for answer in answers for retry in answer.raw.retries.history]
    assert {answer.status_code for answer in answers} == {200}
    assert {retry.status for retry in refusals} == {429}
    assert time.monotonic() - began >= len(refusals), "each waited the second that it was told, or more"
