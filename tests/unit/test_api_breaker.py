"""Whoever asks about the past while ClickHouse does not answer is told so at once, and later it is asked again."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from api import breaker, history
from api.breaker import REMEMBERED_S, Breaker
from api.history import ClickHouseHistory
from api.problems import ProblemError
from clickhouse.connection import ClickHouse


class Time:
    """Stands still unless it is told."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def refused(tried: Breaker) -> int | None:
    """After how many seconds it says to ask again; None: it lets ask."""
    try:
        tried.begin()
    except ProblemError as error:
        return int(error.headers["Retry-After"])
    return None


def test_a_failure_is_remembered_for_a_while_and_then_one_question_finds_out() -> None:
    now = Time()
    tried = Breaker("It cannot be asked", now)
    tried.failed(tried.begin())
    assert refused(tried) == REMEMBERED_S
    now.s += REMEMBERED_S - 0.5
    assert refused(tried) == 1
    now.s += 0.5
    assert refused(tried) is None
    assert refused(tried) == REMEMBERED_S  # the others wait for what that one finds
    tried.answered()
    assert [refused(tried) for _ in range(3)] == [None, None, None]


def test_a_question_that_fails_while_others_are_answered_closes_nothing() -> None:
    now = Time()
    tried = Breaker("It cannot be asked", now)
    began = tried.begin()
    now.s += 1
    tried.answered()
    now.s += 9
    tried.failed(began)
    assert refused(tried) is None


def asked_with(monkeypatch: pytest.MonkeyPatch) -> ClickHouseHistory:
    asked = ClickHouseHistory(ClickHouse())
    monkeypatch.setattr(asked, "_connected", lambda: None)
    return asked


async def test_while_clickhouse_is_slow_only_the_first_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "ANSWER_LIMIT_S", 0.3)
    asked, go_on = asked_with(monkeypatch), threading.Event()
    with pytest.raises(ProblemError):
        await asked.ask(lambda _: go_on.wait(20))
    began = time.monotonic()
    answers: list[Any] = await asyncio.gather(*(asked.ask(lambda _: 1) for _ in range(100)), return_exceptions=True)
    assert time.monotonic() - began < 0.3
    assert {one.status for one in answers} == {503}
    assert all(1 <= int(one.headers["Retry-After"]) <= REMEMBERED_S for one in answers)
    go_on.set()
    asked.close()


async def test_it_is_asked_again_and_answers_all_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "REMEMBERED_S", 0.0)
    asked = asked_with(monkeypatch)

    def fail(_: object) -> None:
        raise OSError("away")

    with pytest.raises(ProblemError):
        await asked.ask(fail)
    assert [await asked.ask(lambda _, number: number, number) for number in (1, 2)] == [1, 2]
    asked.close()


@pytest.mark.parametrize(("code", "closes"), [(47, False), (62, False), (202, True), (159, True), (None, True)])
async def test_an_error_of_one_question_alone_closes_nothing(
    code: int | None, closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_with(monkeypatch)

    def fail(_: object) -> None:
        raise DatabaseError("refused", code=code)

    with pytest.raises(ProblemError):
        await asked.ask(fail)
    if closes:
        with pytest.raises(ProblemError):
            await asked.ask(lambda _: 1)
    else:
        assert await asked.ask(lambda _: 1) == 1
    asked.close()
