"""Requests that schemathesis makes of the OpenAPI document, sent to the API in process with every kind of credential,
and what must hold for each answer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api_app import FINCH, HERON, MARKS, READER, REVOKED, WRITER, ApiApp
from tests.gating import CATALOGUE

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
WHO: Final = {
    "a customer": HERON,
    "another tenant": FINCH,
    "a revoked key": REVOKED,
    "nobody": None,
    "an unknown key": "sk_live_never",
    "a reading operator": READER,
    "a writing operator": WRITER,
}
MAY: Final = {"customer": ("a customer", "another tenant"), "operator": ("a reading operator", "a writing operator")}
KNOWN: Final = {
    "organization_id": ("org_heron", "org_finch"),
    "account_id": ("org_heron", "org_finch"),
    "key_id": ("key_heron_1", "key_heron_2", "key_finch_1"),
    "api_key_id": ("key_heron_1", "key_finch_1"),
    "decision_id": ("d-heron", "d-finch"),
    "version": (CATALOGUE.version,),
}
"""What stands behind a name of a path: generated names find nothing."""
TOO_LARGE: Final = (413, 414, 431)
"""Refused unread, whoever asks."""
STREAM: Final = "/v1/organizations/live"
"""Never ends; tests of its own ask it."""


@schemathesis.serializer("application/toml")
def _toml(_: object, value: object) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else repr(value).encode()


def schema_of(api: ApiApp) -> Any:
    """The document, with the application behind it."""
    schema = schemathesis.openapi.from_dict(api.app.openapi()).exclude(path=STREAM)
    schema.app = api.app
    return schema


def operations(schema: Any) -> list[Any]:
    """All operations of the document."""
    return [result.ok() for result in schema.get_all_operations()]


def explore(api: ApiApp, operation: Any, examples: int, number: int) -> int:
    """Sends ``examples`` requests that fit the document and as many that do not; returns how many. Raises
    AssertionError or schemathesis' failures, which say how to repeat the request."""
    sent = 0
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        known = {name: st.sampled_from(values) for name, values in KNOWN.items()}

        @seed(number)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(
            case=operation.as_strategy(generation_mode=mode),
            who=st.sampled_from(sorted(WHO)),
            known=st.fixed_dictionaries({}, optional=known),
        )
        def send(case: Any, who: str, known: dict[str, Any]) -> None:
            nonlocal sent
            sent += 1
            for name in case.path_parameters.keys() & known.keys():
                case.path_parameters[name] = known[name]
            check(api, case, who)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tools' own, about data that they could not make
                send()
        except Exception as error:
            if type(error).__name__ == "Unsatisfiable":  # a request without anything to be wrong
                continue
            raise
    return sent


def check(api: ApiApp, case: Any, who: str) -> Any:
    """Sends one request as ``who``, and holds the answer against the document and against what nobody may see."""
    api.now_ms += 1_000  # so that buckets are full again
    secret = WHO[who]
    case.headers.pop("Authorization", None)
    response = case.call(headers={} if secret is None else {"Authorization": f"Bearer {secret}"})
    case.validate_response(response, checks=CHECKS)
    refuse_leaks(case.operation.path, who, response.status_code, response.headers, response.content)
    return response


def refuse_leaks(path: str, who: str, status: int, headers: Any, content: bytes) -> None:
    """Raises AssertionError where an answer says anything to somebody whom it is not for."""
    audience = "operator" if path.startswith("/v1/operator") else "customer"
    whole = repr(dict(headers)).encode() + content
    if who not in MAY[audience]:
        is_no_route = status == 404 and b"nothing under this path" in content  # such as a control sign in it
        assert is_no_route or status in (401, *TOO_LARGE), f"{who} got {status} from {path}"
        assert status != 401 or content == unauthenticated(), f"{who} learns something from {path}"
        marks: Sequence[bytes] = MARKS["heron"] + MARKS["finch"]
    else:
        marks = {"a customer": MARKS["finch"], "another tenant": MARKS["heron"]}.get(who, ())
    for mark in marks:
        assert mark not in whole, f"{who} is shown {mark!r} of another by {path}"
    for secret in (HERON, FINCH, REVOKED, READER, WRITER):
        assert secret.encode() not in whole, f"{path} repeats a secret"
    if audience == "operator" and who == "a reading operator" and status < 400:
        assert b'"secret":"' not in content


def unauthenticated() -> bytes:
    """The one body of a 401."""
    return (
        b'{"type":"about:blank","title":"Unauthorized","status":401,'
        b'"detail":"This needs a valid credential.","fields":[]}'
    )
