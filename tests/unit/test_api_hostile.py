"""The API against requests that mean harm: bounds, headers, logs, and what an answer tells who may not ask."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api import auth, limits
from api.limits import BODY_BYTES_MAX, HEADERS_MAX, PATH_BYTES_MAX, QUERY_BYTES_MAX
from tests.api_app import FINCH, HERON, READER, REVOKED, WRITER, ApiApp

CUSTOMERS = "/v1/organizations/usage"
OPERATORS = "/v1/operator/blocks"
GRANT = "/v1/operator/organizations/org_heron/grants/g1"
ID = {"Idempotency-Key": "cmd-1"}
SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture
def api() -> ApiApp:
    return ApiApp()


async def ask(api: ApiApp, path: str, *headers: tuple[bytes, bytes], method: str = "GET", **more: Any) -> Any:
    """One request with these header fields as they are, past any client's own care; (status, headers, body)."""
    body: list[bytes] = list(more.pop("body", [b""]))
    sent: list[Any] = []
    query = more.pop("query", b"")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode("utf-8", "surrogatepass"), "query_string": query, "root_path": "",
        "headers": list(headers), "client": ("127.0.0.1", 1), "server": ("api", 80), "state": {},
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": body.pop(0), "more_body": bool(body)}

    async def send(message: Any) -> None:
        sent.append(message)

    await api.app(scope, receive, send)
    content = b"".join(one.get("body", b"") for one in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), content


def bearer(secret: bytes) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + secret


# ---- who may not ask learns nothing ----

NOT_WELCOME = {
    "nobody": [],
    "an unknown key": [bearer(b"sk_live_unknown")],
    "a revoked key": [bearer(REVOKED.encode())],
    "an empty key": [bearer(b"")],
    "another scheme": [(b"authorization", b"Basic " + HERON.encode())],
    "no scheme": [(b"authorization", HERON.encode())],
    "a long key": [bearer(b"x" * 10_000)],
    "bytes": [bearer(bytes(range(128, 256)))],
    "two keys": [bearer(HERON.encode()), bearer(HERON.encode())],
    "a key and a line": [bearer(HERON.encode() + b"\r\nX-A: b")],
    "a key and more": [bearer(HERON.encode() + b" x")],
    "its hash": [bearer(hashlib.sha256(HERON.encode()).hexdigest().encode())],
}


@pytest.mark.parametrize("path", [CUSTOMERS, "/v1/organizations/live", OPERATORS, "/v1/operator/nothing-here", GRANT])
async def test_whoever_may_not_ask_gets_one_and_the_same_answer(api: ApiApp, path: str) -> None:
    answers = {why: await ask(api, path, *headers) for why, headers in NOT_WELCOME.items()}
    first = answers["nobody"]
    assert first[0] == 401
    assert first[1][b"www-authenticate"] == b"Bearer"
    assert {why for why, answer in answers.items() if answer != first} == set()


@pytest.mark.parametrize("path", [CUSTOMERS, "/v1/organizations/live"])
async def test_where_not_all_keys_are_known_nobody_learns_which_are_either(api: ApiApp, path: str) -> None:
    api.known.view.complete = False
    answers = {why: await ask(api, path, *headers) for why, headers in NOT_WELCOME.items()}
    assert answers["nobody"][0] == 503, "what is not known may be a key that found no room"
    assert {why for why, answer in answers.items() if answer != answers["nobody"]} == set()
    assert (await ask(api, CUSTOMERS, bearer(HERON.encode())))[0] == 200


async def test_a_body_is_not_looked_at_before_the_credential(api: ApiApp) -> None:
    fields = ((b"content-type", b"application/json"), (b"idempotency-key", b"c"))
    assert (await ask(api, GRANT, *fields, method="PUT", body=[b"{"]))[0] == 401
    assert (await ask(api, GRANT, *fields, bearer(b"x"), method="PUT", body=[b"{"]))[0] == 401


async def test_every_refused_key_takes_the_same_work(api: ApiApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes time is the hash and the look-up: each is done once, for whatever was presented."""
    work: list[str] = []

    class Hashing:
        @staticmethod
        def sha256(value: bytes) -> Any:
            work.append("hash")
            return hashlib.sha256(value)

    look_up = api.known.view.key

    def key(sha256: str) -> Any:
        work.append("look-up")
        return look_up(sha256)

    monkeypatch.setattr(auth, "hashlib", Hashing)
    monkeypatch.setattr(api.known.view, "key", key)
    for why, headers in NOT_WELCOME.items():
        work.clear()
        await ask(api, CUSTOMERS, *headers)
        assert work == ["hash", "look-up"], why


async def test_what_is_anothers_and_what_never_was_look_the_same(api: ApiApp) -> None:
    async with api.client(HERON) as client:
        for path in (f"{CUSTOMERS}/api-keys/key_%s_1", "/v1/organizations/decisions/d-%s"):
            foreign, unknown = await client.get(path % "finch"), await client.get(path % "nobody")
            assert (foreign.status_code, foreign.content) == (404, unknown.content), path


# ---- bounds ----


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (414, {"query": b"a" * (QUERY_BYTES_MAX + 1)}),
        (414, {"path": "/" + "a" * PATH_BYTES_MAX}),
        (431, {"headers": [(b"x-%d" % number, b"1") for number in range(HEADERS_MAX)]}),
        (413, {"headers": [(b"content-length", str(BODY_BYTES_MAX + 1).encode())]}),
        (413, {"headers": [(b"content-length", b"9" * 5_000)]}),
        (413, {"body": [b" " * 1_000] * 70, "method": "POST", "path": "/v1/operator/organizations/org_heron/keys"}),
    ],
)
@pytest.mark.parametrize("path", [GRANT, "/v1/operator/catalogues/check"])
async def test_what_is_too_large_is_refused(api: ApiApp, path: str, status: int, more: dict[str, Any]) -> None:
    given = {"path": path, "method": "PUT"} | more
    headers = [(b"content-type", b"application/json"), bearer(WRITER.encode()), *given.pop("headers", [])]
    answer = await ask(api, given.pop("path"), *headers, (b"idempotency-key", b"c"), **given)
    assert answer[0] == status, answer
    assert answer[1][b"content-type"] == b"application/problem+json"
    assert api.desk.log == []


BODIES = {
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "deep and whole": b'{"reason":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    **{f"{depth} deep": b'{"reason":' + b"[" * depth + b"]" * depth + b"}" for depth in range(150, 1_000, 50)},
    "a long number": b'{"credits_micro":' + b"9" * 60_000 + b"}",
    "a huge exponent": b'{"credits_micro":1e999999}',
    "not a number": b'{"credits_micro":NaN}',
    "a lone surrogate": b'{"credits_micro":1,"reason":"\\ud800"}',
    "a control sign": b'{"credits_micro":1,"reason":"a\\u0000b"}',
    "no UTF-8": b'{"credits_micro":1,"reason":"\xff"}',
    "nothing": b"",
    "a word": b"null",
    "much": b'{"credits_micro":1,"reason":"' + b"a" * 60_000 + b'"}',
    "a prototype": b'{"credits_micro":1,"__proto__":{}}',
    "a flood of unknown names": b"{" + b",".join(b'"x%d":1' % number for number in range(6_000)) + b"}",
}


@pytest.mark.parametrize("why", BODIES)
async def test_a_body_that_is_none_is_refused_in_few_words(api: ApiApp, why: str) -> None:
    async with api.client(WRITER) as client:
        headers = ID | {"Content-Type": "application/json"}
        answer = await client.put(GRANT, content=BODIES[why], headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 4_096
    assert api.desk.log == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None])
async def test_a_body_of_another_type_is_no_command(api: ApiApp, kind: str | None) -> None:
    """So no form of another site's page can make one."""
    async with api.client(WRITER) as client:
        headers = ID | ({} if kind is None else {"Content-Type": kind})
        request = client.build_request("PUT", GRANT, content=b'{"credits_micro":1}', headers=headers)
        assert (await client.send(request)).status_code in (400, 422)
    assert api.desk.log == []


@pytest.mark.parametrize("kind", ["text/plain", "application/json", ""])
async def test_a_catalogue_must_say_that_it_is_toml(api: ApiApp, kind: str) -> None:
    async with api.client(WRITER) as client:
        answer = await client.post("/v1/operator/catalogues", content=b"version = 1", headers={"Content-Type": kind})
        assert answer.status_code == 415


async def test_an_answer_that_comes_when_it_is_given_up_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of Kafka may take the cancellation for its own and go on."""
    monkeypatch.setattr(limits, "ANSWER_LIMIT_S", 0.02)

    async def late(_: Any, __: Any, send: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})

    async with httpx.AsyncClient(transport=httpx.ASGITransport(limits.Bounds(late)), base_url="http://api") as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.content) == (200, b"late")


# ---- headers and logs ----


@pytest.mark.parametrize(
    ("method", "path", "secret"),
    [
        ("GET", CUSTOMERS, HERON),
        ("GET", CUSTOMERS, None),
        ("GET", OPERATORS, READER),
        ("POST", CUSTOMERS, HERON),
        ("TRACE", OPERATORS, WRITER),
        ("GET", "/v1/nothing", HERON),
        ("GET", "/openapi.json", None),
        ("GET", f"{CUSTOMERS}?{'a' * 5_000}", HERON),
    ],
)
async def test_every_answer_has_the_security_headers(api: ApiApp, method: str, path: str, secret: str | None) -> None:
    async with api.client(secret) as client:
        answer = await client.request(method, path)
    assert answer.headers.items() >= SECURITY.items()
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.status_code < 500
    if path.startswith("/v1/"):
        assert answer.headers["cache-control"] in ("no-store", "private, no-cache")


async def test_a_fault_is_said_without_its_inside_and_with_the_headers(
    api: ApiApp, caplog: pytest.LogCaptureFixture
) -> None:
    api.desk.failure = RuntimeError("inside")
    async with api.client(WRITER) as client:
        answer = await client.put(GRANT, json={"credits_micro": 1}, headers=ID)
    assert answer.status_code == 500
    assert b"inside" not in answer.content
    assert answer.headers.items() >= SECURITY.items()
    assert "a request was not answered" in caplog.text


@pytest.mark.parametrize("name", [b"a\r\nX-Evil: 1", b"a\nb", b"a\x00b", b'a"b', b"a b", bytes([200])])
async def test_no_header_of_a_request_gets_into_one_of_the_answer(api: ApiApp, name: bytes) -> None:
    fields = (bearer(WRITER.encode()), (b"content-type", b"application/json"), (b"idempotency-key", name))
    status, headers, _ = await ask(api, GRANT, *fields, method="PUT", body=[b'{"credits_micro":1}'])
    assert status == 422
    assert not any(b"\r" in value or b"\n" in value or b"Evil" in value for value in headers.values())


async def test_the_place_to_look_is_quoted(api: ApiApp) -> None:
    api.desk.is_silent = True
    async with api.client(WRITER) as client:
        answer = await client.put(GRANT, json={"credits_micro": 1}, headers={"Idempotency-Key": "a/b+c=d@e#f~g"})
    assert answer.headers["location"] == "/v1/operator/accounts/org_heron/commands?command_id=a%2Fb%2Bc%3Dd%40e%23f~g"


@pytest.mark.contract("1.5")
async def test_logs_repeat_neither_secrets_nor_what_was_sent(api: ApiApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api.desk.failure = OSError("away")
    for secret in (HERON, FINCH, REVOKED, READER, WRITER, "sk_live_evil"):
        for path in (CUSTOMERS, OPERATORS, "/v1/operator/trail", GRANT):
            await ask(
                api,
                path,
                bearer(secret.encode()),
                (b"content-type", b"application/json"),
                (b"idempotency-key", b"evil\nINFO forged"),
                (b"user-agent", b"evil\x1b[2J"),
                method="PUT" if path == GRANT else "GET",
                body=[b'{"credits_micro":1,"reason":"evil"}'],
                query=b"evil=%0aINFO",
            )
    assert "evil" not in caplog.text
    assert "forged" not in caplog.text
    assert not any(secret in caplog.text for secret in (HERON, FINCH, REVOKED, READER, WRITER))


@pytest.mark.parametrize("path", ["/v1/operator/../organizations", "/v1/operator//blocks", "/V1/operator/blocks", "//"])
async def test_no_other_spelling_of_a_path_gets_past_the_credential(api: ApiApp, path: str) -> None:
    status, _, _ = await ask(api, path)
    assert status in (401, 404)


# ---- the document ----


@pytest.fixture
async def anybody(api: ApiApp) -> AsyncIterator[httpx.AsyncClient]:
    async with api.client() as client:
        yield client


async def test_the_document_is_open_and_names_no_tenant(anybody: httpx.AsyncClient) -> None:
    document = await anybody.get("/openapi.json")
    assert document.status_code == 200
    assert b"heron" not in document.content
    assert (await anybody.get("/docs")).status_code == 404
