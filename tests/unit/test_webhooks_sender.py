"""One attempt, against a real receiver on loopback: signed, bounded in time and size, and never led astray."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.webhook_receiver import OLD_SECRET, SECRET, Receiver, Reply, alert
from webhooks.endpoints import Endpoint
from webhooks.sender import Outcome, Resolve, Sender, resolve

LOOPBACK = (IPv4Network("127.0.0.0/8"),)
ALERT = alert().model_dump_json()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


def endpoint(url: str, *secrets: str, timeout_s: int = 10, **options: object) -> Endpoint:
    fields = {"allow_networks": LOOPBACK, "timeout_s": timeout_s, **options}
    return Endpoint(name="pager", url=httpx.URL(url), secrets=secrets or (SECRET,), **fields)  # type: ignore[arg-type]  # as the test says


@asynccontextmanager
async def sending(to: Endpoint, resolving: Resolve = resolve) -> AsyncIterator[Sender]:
    sender = Sender(to, resolve=resolving)
    try:
        yield sender
    finally:
        await sender.close()


async def attempted(to: Endpoint, resolving: Resolve = resolve, webhook_id: str = "alert-1:fired") -> Outcome:
    async with sending(to, resolving) as sender:
        return await sender.attempt(webhook_id, ALERT)


@pytest.mark.contract("5.14")
async def test_the_library_believes_what_was_sent_and_reads_the_alert(receiver: Receiver) -> None:
    assert await attempted(endpoint(receiver.url)) == Outcome(None, 204)
    assert receiver.accepted == {"alert-1:fired": 1}
    assert receiver.payloads["alert-1:fired"]["data"]["alert_id"] == alert().alert_id
    [headers] = receiver.headers
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("known", [SECRET, OLD_SECRET])
async def test_while_a_secret_is_rotated_a_receiver_may_know_either(known: str) -> None:
    with Receiver(known) as receiver:
        assert (await attempted(endpoint(receiver.url, SECRET, OLD_SECRET))).failure is None
        assert receiver.headers[0]["webhook-signature"].count("v1,") == 2


async def test_a_receiver_that_knows_another_secret_does_not_believe_it() -> None:
    with Receiver(OLD_SECRET) as receiver:
        assert await attempted(endpoint(receiver.url)) == Outcome("status", 401)
        assert receiver.rejected == ["No matching signature found"]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(200, body=b"ok"), Outcome(None, 200)),
        (Reply(202, body=b"x" * 10_000_000), Outcome(None, 202)),
        (Reply(500), Outcome("status", 500)),
        (Reply(404), Outcome("status", 404)),
        (Reply(410), Outcome("gone", 410)),
        (Reply(429, {"Retry-After": "120"}), Outcome("status", 429, 120.0)),
        (Reply(503, {"Retry-After": "nonsense"}), Outcome("status", 503)),
        (Reply(302, {"Location": "http://127.0.0.1:1/inside"}), Outcome("redirect", 302)),
        (Reply(307, {"Location": "http://169.254.169.254/"}), Outcome("redirect", 307)),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else "",
)
async def test_an_answer_means_what_its_status_says(receiver: Receiver, reply: Reply, outcome: Outcome) -> None:
    receiver.reply = lambda _number, _id: reply
    assert await attempted(endpoint(receiver.url)) == outcome
    assert receiver.requests == 1


async def test_an_answer_without_end_is_not_read(receiver: Receiver) -> None:
    receiver.reply = lambda _number, _id: Reply(500, body_forever=True)
    assert await attempted(endpoint(receiver.url)) == Outcome("status", 500)


async def test_a_receiver_that_does_not_answer_is_left_in_time(receiver: Receiver) -> None:
    released = threading.Event()

    def wait(_number: int, _id: str) -> Reply:
        released.wait(60)
        return Reply()

    receiver.reply = wait
    began = time.monotonic()
    assert await attempted(endpoint(receiver.url, timeout_s=1)) == Outcome("timeout")
    assert time.monotonic() - began < 30
    released.set()


async def test_a_name_server_that_does_not_answer_is_left_in_time(receiver: Receiver) -> None:
    released = threading.Event()

    def hang(_host: str, _port: int) -> list[str]:
        released.wait(60)
        return []

    assert await attempted(endpoint(receiver.url, timeout_s=1), hang) == Outcome("timeout")
    released.set()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/",
        "http://localhost:{}/",
        "http://0.0.0.0:{}/",
        "http://2130706433:{}/",
        "http://0x7f.1:{}/",
        "http://[::ffff:127.0.0.1]:{}/",
    ],
)
async def test_nothing_inside_is_called_however_it_is_written(receiver: Receiver, url: str) -> None:
    assert await attempted(endpoint(url.format(receiver.port), allow_networks=())) == Outcome("address_refused")
    assert receiver.requests == 0


async def test_a_name_that_changes_its_address_after_the_check_is_called_where_it_was_checked(
    receiver: Receiver,
) -> None:
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    to = endpoint(f"http://rebinding.test:{receiver.port}/hook")
    assert (await attempted(to, rebinding)).failure is None  # the system knows no such name: it was not asked
    assert asked == ["rebinding.test"]
    assert receiver.headers[0]["host"] == f"rebinding.test:{receiver.port}"


async def test_a_name_is_checked_at_each_attempt(receiver: Receiver) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"], ["8.8.8.8", "10.0.0.1"]])
    async with sending(endpoint(f"http://moving.test:{receiver.port}/"), lambda _host, _port: next(answers)) as sender:
        outcomes = [(await sender.attempt(f"alert-{number}", ALERT)).failure for number in range(3)]
    assert outcomes == [None, "address_refused", "address_refused"]
    assert receiver.requests == 1


async def test_the_next_address_is_tried_where_one_cannot_be_connected_to(receiver: Receiver) -> None:
    to = endpoint(f"http://twice.test:{receiver.port}/")
    assert (await attempted(to, lambda _host, _port: ["127.0.0.9", "127.0.0.1"])).failure is None


async def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert (await attempted(endpoint(receiver.url))).failure is None


def unknown(_host: str, _port: int) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "no such name")


async def test_a_host_that_is_not_there_is_named_as_such() -> None:
    with Receiver() as gone:
        url = gone.url
    assert await attempted(endpoint(url)) == Outcome("unreachable")
    assert await attempted(endpoint(url), unknown) == Outcome("unknown_host")
    assert await attempted(endpoint(url), lambda _host, _port: []) == Outcome("unknown_host")
    assert await attempted(endpoint(f"http://{'a' * 70}.test/")) == Outcome("unknown_host")


@asynccontextmanager
async def answering(content: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that answers each connection with ``content``; its port."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"HTTP/1.1 200 " + tail))
def test_whatever_a_receiver_answers_is_an_outcome(content: bytes) -> None:
    async def play() -> Outcome:
        async with answering(content) as port:
            return await attempted(endpoint(f"http://127.0.0.1:{port}/"))

    outcome = asyncio.run(play())
    assert outcome.failure in (None, "status", "protocol", "unreachable", "timeout")


async def test_headers_without_end_are_not_kept() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 5_000_000) as port:
        assert await attempted(endpoint(f"http://127.0.0.1:{port}/")) == Outcome("protocol")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of ``receiver.test``, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed here")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=receiver.test"),
            *("-addext", "subjectAltName=DNS:receiver.test", "-keyout", str(key), "-out", str(made)),
        ],
        check=True,
        capture_output=True,
    )
    return made, key


@pytest.mark.parametrize(
    ("host", "is_trusted", "failure"),
    [("receiver.test", True, None), ("other.test", True, "certificate"), ("receiver.test", False, "certificate")],
)
async def test_the_certificate_must_be_the_hosts_though_its_address_is_called(
    certificate: tuple[Path, Path], host: str, is_trusted: bool, failure: str | None
) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    trusting: dict[str, object] = {"tls": ssl.create_default_context(cafile=certificate[0])} if is_trusted else {}
    found: Callable[[str, int], list[str]] = lambda _host, _port: ["127.0.0.1"]  # noqa: E731 (a stand-in, not a function)
    async with answering(b"HTTP/1.1 204 No Content\r\n\r\n", serving) as port:
        outcome = await attempted(endpoint(f"https://{host}:{port}/", **trusting), found)  # type: ignore[arg-type]  # options
    assert outcome.failure == failure
