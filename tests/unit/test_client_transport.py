"""The client kit's transports: what is tried again and when, what opens the circuit, and what a fallback is asked."""

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest

from sluicegate.client import (
    AsyncPacedTransport,
    CircuitOpenError,
    ClientSettings,
    Hint,
    PacedTransport,
    Reason,
    hints_of,
    retry_after_s,
)

Answer = httpx.Response | Exception
URL = "http://api.test/v1/search"
QUOTA = {"success": False, "status": 403, "error": {"message": "", "type": "QuotaExceededError", "details": {}}}


class World:
    """A server that answers as scripted, and a clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self.asked: list[httpx.Request] = []
        self.answers: list[Answer] = []
        self.fallbacks: list[tuple[Reason, int | None]] = []
        self.instead: httpx.Response | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def fallback(
        self, request: httpx.Request, reason: Reason, response: httpx.Response | None
    ) -> httpx.Response | None:
        self.fallbacks.append((reason, None if response is None else response.status_code))
        return self.instead

    async def fallback_async(
        self, request: httpx.Request, reason: Reason, response: httpx.Response | None
    ) -> httpx.Response | None:
        return self.fallback(request, reason, response)


Send = Callable[..., httpx.Response]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=["sync", "async"])
def send(request: pytest.FixtureRequest, world: World) -> Iterator[Send]:
    """One request through a fresh client on either transport, which all requests of a test share."""
    common = {"monotonic": lambda: world.now, "wall": lambda: 1_790_000_000.0}
    inner = httpx.MockTransport(world.answer)
    settings = ClientSettings(paces=False)
    if request.param == "sync":
        transport = PacedTransport(settings, fallback=world.fallback, transport=inner, sleep=world.sleep, **common)
        with httpx.Client(transport=transport) as client:
            yield client.request
    else:
        transport_async = AsyncPacedTransport(
            settings, fallback=world.fallback_async, transport=inner, sleep=world.sleep_async, **common
        )

        async def once(*arguments: object, **options: object) -> httpx.Response:
            async with httpx.AsyncClient(transport=transport_async) as client:
                return await client.request(*arguments, **options)

        yield lambda *arguments, **options: asyncio.run(once(*arguments, **options))


@pytest.mark.contract("6.1")
def test_a_throttled_call_comes_back_when_it_was_told_to_and_not_all_at_once(world: World, send: Send) -> None:
    world.answers = [httpx.Response(429, headers={"Retry-After": "15"}), httpx.Response(200)]
    assert send("POST", URL, json={"q": "x"}).status_code == 200
    assert len(world.slept) == 1
    assert 15 <= world.slept[0] <= 16
    assert world.asked[0].content == world.asked[1].content


@pytest.mark.contract("6.1")
def test_after_so_many_tries_the_refusal_is_the_answer(world: World, send: Send) -> None:
    world.answers = [httpx.Response(429, headers={"Retry-After": "1"}) for _ in range(9)]
    assert send("GET", URL).status_code == 429
    assert len(world.asked) == 5
    assert world.fallbacks == [(Reason.THROTTLED, 429)]


def test_nobody_waits_longer_than_its_patience(world: World, send: Send) -> None:
    world.answers = [httpx.Response(429, headers={"Retry-After": "3600"})]
    assert send("GET", URL).status_code == 429
    assert world.slept == []


def test_nobody_is_paced_for_longer_than_its_patience(world: World) -> None:
    told = {"RateLimit-Policy": '"x";q=1;w=2678400', "RateLimit": '"x";r=0'}
    world.answers = [httpx.Response(200, headers=told) for _ in range(4)]
    transport = PacedTransport(
        transport=httpx.MockTransport(world.answer), sleep=world.sleep, monotonic=lambda: world.now
    )
    with httpx.Client(transport=transport) as client:
        for _ in range(4):
            assert client.get(URL).status_code == 200
    assert max(world.slept) <= ClientSettings().patience_s


def test_what_may_have_been_carried_out_is_not_done_twice(world: World, send: Send) -> None:
    world.answers = [httpx.Response(500), httpx.Response(200)]
    assert send("POST", URL).status_code == 500
    world.answers = [httpx.Response(500), httpx.Response(200)]
    assert send("POST", URL, headers={"Idempotency-Key": "1"}).status_code == 200
    world.answers = [httpx.ReadTimeout("slow"), httpx.Response(200)]
    with pytest.raises(httpx.ReadTimeout):
        send("POST", URL)
    world.answers = [httpx.ConnectError("refused"), httpx.Response(200)]
    assert send("POST", URL).status_code == 200


@pytest.mark.contract("6.1")
def test_failures_are_tried_again_later_and_later(world: World, send: Send) -> None:
    world.answers = [httpx.Response(502), httpx.ReadError("cut"), httpx.Response(503), httpx.Response(200)]
    assert send("GET", URL).status_code == 200
    assert [wait <= 2**number for number, wait in enumerate(world.slept, 1)] == [True] * 3


def test_a_stream_that_was_sent_is_not_sent_again(world: World) -> None:
    world.answers = [httpx.Response(429, headers={"Retry-After": "1"}), httpx.Response(200)]
    transport = PacedTransport(transport=httpx.MockTransport(world.answer), sleep=world.sleep)
    with httpx.Client(transport=transport) as client:
        assert client.put(URL, content=iter([b"once"])).status_code == 429


@pytest.mark.contract("6.2")
def test_a_server_that_is_down_is_left_alone_and_then_tried(world: World, send: Send) -> None:
    world.answers = [httpx.Response(500) for _ in range(5)]
    for _ in range(5):
        assert send("POST", URL).status_code == 500
    with pytest.raises(CircuitOpenError):
        send("POST", URL)
    assert len(world.asked) == 5
    world.now += 60
    world.answers = [httpx.Response(200), httpx.Response(200)]
    assert send("POST", URL).status_code == 200
    assert send("POST", URL).status_code == 200


def test_another_server_and_another_key_have_circuits_of_their_own(world: World, send: Send) -> None:
    world.answers = [httpx.Response(500) for _ in range(5)]
    for _ in range(5):
        send("POST", URL, headers={"Authorization": "Bearer one"})
    world.answers = [httpx.Response(200), httpx.Response(200)]
    assert send("POST", URL, headers={"Authorization": "Bearer two"}).status_code == 200
    assert send("POST", "http://other.test/", headers={"Authorization": "Bearer one"}).status_code == 200


@pytest.mark.contract("6.4")
def test_a_fallback_answers_instead_of_a_refusal(world: World, send: Send) -> None:
    world.instead = httpx.Response(200, text="cached")
    world.answers = [httpx.Response(403, json=QUOTA)]
    assert send("POST", URL).text == "cached"
    world.answers = [httpx.Response(403, text="forbidden")]
    assert send("POST", URL).text == "forbidden"
    world.answers = [httpx.Response(500) for _ in range(5)]
    for _ in range(5):
        assert send("POST", URL).text == "cached"
    assert send("POST", URL).text == "cached"
    assert world.fallbacks == [(Reason.QUOTA, 403), *[(Reason.FAILED, 500)] * 5, (Reason.CIRCUIT_OPEN, None)]


def test_what_a_server_says_of_its_limits_is_read_and_nonsense_passed_over() -> None:
    headers = httpx.Headers(
        {
            "RateLimit-Policy": '"requests_per_second";q=200;w=2, "requests_per_minute";q=600;w=60',
            "RateLimit": '"requests_per_second";r=199;t=1, "requests_per_minute";r=598;t=1, "other";r=1',
        }
    )
    assert hints_of(headers) == [Hint("requests_per_second", 200, 2, 199), Hint("requests_per_minute", 600, 60, 598)]
    older = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "700", "X-RateLimit-Window": "60"}
    assert hints_of(httpx.Headers(older)) == [Hint("x-ratelimit", 600, 60, 600)]
    for nonsense in ('"a";r=-1', "\x00", '"a";r="1"', '"a";q=0;w=0;r=0', "a" * 5_000, '("a" "b");r=1'):
        assert hints_of({"ratelimit": nonsense, "ratelimit-policy": nonsense}) == []
    assert retry_after_s({"retry-after": "15"}, 0.0) == 15
    assert retry_after_s({"retry-after": "Mon, 23 Nov 2026 00:00:10 GMT"}, 1_795_392_000.0) == 10
    nonsense_times = ("", "-1", "soon", "1.5", "Mon, 01 Jan 2024 00:00:00 +99999999999999999999")
    assert [retry_after_s({"retry-after": text}, 0.0) for text in nonsense_times] == [None] * 5
