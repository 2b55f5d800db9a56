"""The scenes call until their limit refuses them, clear it, and say how far they came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from stack.pipeline import demonstration_secrets
from stack.scenes import SCENES, Play
from stack.traffic import Counts
from stack.verify import scenes_played
from stack.view import Moment, View
from stack.watch import Sight
from tests.unit.test_run_view import printed

Answer = Callable[[httpx.Request], httpx.Response]


def refusal(status: int, *limit_names: str, retry_after_s: int = 0) -> httpx.Response:
    limits = [{"limit_name": name} for name in limit_names]
    body = {"error": {"details": {"limit_name": limit_names[0], "limits": limits}}}
    return httpx.Response(status, json=body, headers={"Retry-After": str(retry_after_s)})


async def played(
    name: str, answer: Answer, *, limit_s: float = 20.0, after: Callable[[Play], None] | None = None
) -> tuple[dict[str, object], Counts, list[tuple[str, ...]]]:
    """(the act, the calls, what the operator did) of one scene against ``answer``."""
    operated: list[tuple[str, ...]] = []

    async def operate(*words: str) -> None:
        operated.append(words)

    scenes = {name: SCENES[name]}
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        play = Play(
            client, ["http://one", "http://two"], demonstration_secrets(), scenes=scenes, operate=operate,
            limit_s=limit_s,
        )  # fmt: skip
        if after is not None:
            asyncio.get_running_loop().call_later(0.2, after, play)
        await play.run()
    shown = json.loads(play.to_json())
    return shown["scenes"][name], play.counts, operated


async def test_a_scene_that_only_an_operator_can_clear_asks_the_operator() -> None:
    answers = iter(
        [
            httpx.Response(201),
            refusal(429, "requests_per_second"),
            refusal(403, "credits"),
            refusal(403, "credits"),
            httpx.Response(201),
        ]
    )
    act, counts, operated = await played("credits", lambda _: next(answers))
    assert (act["refused_by"], act["status"], act["cleared_by"], act["failure"]) == ("credits", 403, "a grant", "")
    assert [words[:3] for words in operated] == [("grant", "put", "org_plover")]
    assert (counts.sent, counts.answers) == (5, {"201": 2, "429": 1, "403": 2})
    assert scenes_played({"credits": act}).ok


async def test_a_quota_is_cleared_by_a_delete() -> None:
    held: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            held.remove(request.url.path.rpartition("/")[2])
            return httpx.Response(200)
        if len(held) >= 2:
            return refusal(403, "quota_collections")
        held.append(json.loads(request.content)["name"])
        return httpx.Response(201)

    act, _, operated = await played("quota", answer)
    assert (act["refused_by"], act["cleared_by"]) == ("quota_collections", "a delete")
    assert not operated


async def test_the_limit_that_is_told_first_need_not_be_the_scenes() -> None:
    answers = iter([refusal(429, "requests_per_minute", "compute_per_minute"), httpx.Response(200)])
    act, _, _ = await played("category", lambda _: next(answers))
    assert act["refused_by"] == "compute_per_minute"


async def test_a_scene_whose_limit_never_fires_ends_in_time_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    act, counts, _ = await played("budget", lambda _: httpx.Response(201), limit_s=0.3)
    assert act["failure"] == "not within 0.3 s"
    check = scenes_played({"budget": act})
    assert (check.ok, check.detail) == (False, "budget: not within 0.3 s")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["sent"] == counts.sent


async def test_a_stop_ends_the_calls_and_each_of_them_is_counted() -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.3)
        return httpx.Response(201)

    act, counts, _ = await played("concurrency", slow, after=Play.stop)  # type: ignore[arg-type]  # httpx takes both
    assert act["failure"] == "the callers were stopped"
    assert counts.sent == counts.answers.total() + counts.unreachable > 0


def test_no_scene_is_no_proof() -> None:
    assert not scenes_played({}).ok


async def test_the_view_shows_each_turn_of_a_scene_once() -> None:
    answers = iter([refusal(429, "operation_quantity"), httpx.Response(200)])
    act, _, _ = await played("operation, a minute", lambda _: next(answers))
    console, out = printed()
    moment = Moment(Sight(0, 0, 0, 0, (), ()), {}, [], 12.0, (), {"operation, a minute": act})
    view = View("trace.csv")
    view.line(console, moment)
    view.line(console, moment)
    console.print(view.render(moment))
    text = out.getvalue()
    assert text.count("operation, a minute: 429 by operation_quantity\n") == 1
    assert text.count("operation, a minute: let in again by time\n") == 1
    assert "429 operation_quantity at" in text
