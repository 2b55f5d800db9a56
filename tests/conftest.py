"""Real parts for tests: a Kafka broker and a ClickHouse engine, started when a test first asks for them.

- ``kafka``, ``clickhouse``: one of each for the whole run, on free loopback ports, data in a temporary folder; tests
  share them, so each uses names of its own (``fresh_prefix``) and never stops them.
- ``broker``, ``engine``: for one test alone, which may kill, pause and restart them.
- ``fresh_prefix``: a name that no other test has, good for topics, groups and databases.

All end with the run, also when tests fail; a killed run leaves no process behind.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import hypothesis
import pytest

from stack.clickhouse import ClickHouse
from stack.kafka import Kafka

# Machines are shared and noisy, so an example's time says nothing; a failure prints how to run it again.
hypothesis.settings.register_profile("sluicegate", deadline=None, print_blob=True)
hypothesis.settings.load_profile("sluicegate")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The broker that all tests share (``kafka.bootstrap``)."""
    shared = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        shared.start()
        yield shared
    finally:
        shared.stop()


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """The ClickHouse engine that all tests share (``clickhouse.client()``, ``.url``, ``.username``, ``.password``)."""
    shared = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    try:
        shared.start()
        yield shared
    finally:
        shared.stop()


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker for this test alone: ``kill``, ``pause``, ``stop`` and ``start`` it at will."""
    own = Kafka(tmp_path_factory.mktemp("broker"))
    try:
        own.start()
        yield own
    finally:
        own.kill()


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A ClickHouse engine for this test alone: ``kill``, ``pause``, ``stop`` and ``start`` it at will."""
    own = ClickHouse(tmp_path_factory.mktemp("engine"))
    try:
        own.start()
        yield own
    finally:
        own.kill()


@pytest.fixture
def fresh_prefix() -> str:
    """Letters and digits that no other test has, starting with a letter."""
    return f"t{secrets.token_hex(5)}"
