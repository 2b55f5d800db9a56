"""The small HTTP server for probes and metrics: what it answers, and what it does not let happen."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from streams import endpoint as module
from streams.endpoint import Answer, Endpoint, ListenError, parse_listen


class Process:
    """What stands behind an endpoint."""

    def __init__(self) -> None:
        self.live = Answer(True, {"state": "runs"})
        self.ready = Answer(False, {"waits_for": "its broker"})
        self.registry = CollectorRegistry()
        Counter("sluicegate_tests", "Counted by a test.", registry=self.registry).inc(3)


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def endpoint(process: Process) -> Iterator[Endpoint]:
    made = Endpoint("127.0.0.1:0", registry=process.registry, live=lambda: process.live, ready=lambda: process.ready)
    yield made
    made.close()


def ask(endpoint: Endpoint, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """(status, content type, body)."""
    assert endpoint.address is not None
    with contextlib.closing(http.client.HTTPConnection(*endpoint.address, timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()


def raw(endpoint: Endpoint, request: bytes) -> bytes:
    """All that comes back until the connection ends."""
    assert endpoint.address is not None
    with socket.create_connection(endpoint.address, timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                answer += chunk
        return answer


def test_a_probe_that_holds_is_200_and_one_that_does_not_is_503(endpoint: Endpoint, process: Process) -> None:
    assert ask(endpoint, "/livez") == (200, "application/json", '{"state":"runs"}\n')
    assert ask(endpoint, "/readyz") == (503, "application/json", '{"waits_for":"its broker"}\n')
    process.ready = Answer(True, {})
    assert ask(endpoint, "/readyz?verbose")[0] == 200


def test_metrics_come_in_the_form_that_is_asked_for(endpoint: Endpoint) -> None:
    status, content_type, body = ask(endpoint, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain")
    assert "sluicegate_tests_total 3.0" in body
    content_type, body = ask(endpoint, "/metrics", Accept="application/openmetrics-text; version=1.0.0")[1:]
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_nothing_else_is_served_and_nothing_of_a_request_is_repeated(endpoint: Endpoint) -> None:
    assert ask(endpoint, "/secret-path")[::2] == (404, "Not Found\n")
    assert ask(endpoint, "/livez", method="POST")[0] == 501
    assert ask(endpoint, "/livez", method="HEAD")[::2] == (200, "")
    for request in (b"GARBAGE-7\r\n\r\n", b"GET /x-7 HTTP/9.9\r\n\r\n", b"GET /7" + b"7" * 70_000 + b"\r\n\r\n"):
        assert b"7\r\n\r\n" not in raw(endpoint, request)
        assert b"Python" not in raw(endpoint, b"GET /livez HTTP/1.0\r\n\r\n")


def test_a_probe_that_raises_is_500_and_the_next_one_is_answered(endpoint: Endpoint, process: Process) -> None:
    process.live = None  # type: ignore[assignment]  # what cannot be answered
    assert ask(endpoint, "/livez")[::2] == (500, "Internal Server Error\n")
    assert ask(endpoint, "/readyz")[0] == 503


def test_a_connection_that_says_nothing_is_cut_and_too_many_are_closed(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT_S", 0.3)
    assert endpoint.address is not None
    with contextlib.ExitStack() as stack:
        for _ in range(module.CONNECTIONS_MAX):
            stack.enter_context(socket.create_connection(endpoint.address, timeout=20)).sendall(b"GET /livez HTT")
        before = threading.active_count()
        assert raw(endpoint, b"") == b""
        assert threading.active_count() <= before + 2 * module.CONNECTIONS_MAX
    status = 0
    for _ in range(200):  # the cut ones free their places soon after their limit
        with contextlib.suppress(OSError, http.client.HTTPException):
            status = ask(endpoint, "/livez")[0]
            break
        threading.Event().wait(0.05)
    assert status == 200


def test_a_busy_port_is_said(endpoint: Endpoint, process: Process) -> None:
    with pytest.raises(ListenError, match=r"nothing can listen on 127\.0\.0\.1:"):
        Endpoint(endpoint.netloc, registry=process.registry, live=lambda: process.live, ready=lambda: process.ready)


def test_without_an_address_nothing_listens(process: Process) -> None:
    silent = Endpoint("", registry=process.registry, live=lambda: process.live, ready=lambda: process.ready)
    assert silent.address is None
    assert silent.netloc == ""
    silent.close()


@pytest.mark.parametrize("text", [":9464", "9464", "127.0.0.1", "127.0.0.1:99999", "*:9464", "a b:1", "::1:80", "x:-1"])
def test_an_address_is_always_named(text: str) -> None:
    with pytest.raises(ListenError, match="is no address to listen on"):
        parse_listen(text)


def test_addresses_of_both_kinds_are_read() -> None:
    assert parse_listen("") is None
    assert parse_listen("[::1]:9464") == ("::1", 9464)
    assert parse_listen("localhost:0") == ("localhost", 0)
