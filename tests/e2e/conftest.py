"""What several end-to-end tests start with: a browser, a database of their own with the tables in it."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from playwright.sync_api import Browser

from clickhouse.connection import ClickHouse
from clickhouse.migrate import migrate
from stack.clickhouse import ClickHouse as Engine
from tests.browser import browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with browser() as running:
        yield running


@pytest.fixture
def client(clickhouse: Engine, fresh_prefix: str) -> Iterator[Client]:
    """A client of a migrated, empty database."""
    address = ClickHouse(clickhouse.url, clickhouse.username, clickhouse.password, fresh_prefix)
    migrate(address)
    made = address.connect()
    yield made
    made.command(f"DROP DATABASE `{fresh_prefix}`")
    made.close()
