"""Errors for which the contract has no form of its own: ``application/problem+json`` (RFC 9457).

A problem says what the caller did wrong and never repeats what it sent, nor anything of the inside.
"""

import http
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from .answers import encode

MEDIA_TYPE: Final = "application/problem+json"
FIELDS_MAX: Final = 16
_NOTHING_HERE: Final = "There is nothing under this path."


class FieldProblem(BaseModel):
    """One field of the query, path or body, and what is wrong with it."""

    field: str
    message: str


class Problem(BaseModel):
    """The body of an error (RFC 9457); ``type`` is about:blank, so ``title`` is the status in words."""

    type: str = "about:blank"
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    fields: list[FieldProblem] = []


class ProblemError(Exception):
    """Ends a request with a problem. ``detail`` is one sentence for the caller."""

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        fields: list[FieldProblem] | None = None,
    ) -> None:
        super().__init__(detail)
        self.fields = fields
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def not_found(what: str) -> ProblemError:
    """404: it does not exist, or it is another organization's; nobody can tell which."""
    return ProblemError(404, f"There is no such {what}.")


def away(what: str, retry_after_s: int = 5) -> ProblemError:
    """503: something that this answer needs cannot be asked at the moment."""
    return ProblemError(503, f"{what} at the moment.", {"Retry-After": str(retry_after_s)})


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, fields: list[FieldProblem] | None = None
) -> Response:
    """The response."""
    body = Problem(title=http.HTTPStatus(status).phrase, status=status, detail=detail, fields=fields or [])
    return Response(encode(body), status, dict(headers or {}), MEDIA_TYPE)


def nothing_here() -> Response:
    """404, the response: no route has this path."""
    return problem(404, _NOTHING_HERE)


PROBLEM_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {
        "description": "The request cannot be answered",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
    "5XX": {
        "description": "Not at the moment",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
}


REFUSAL_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": description,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}},
            MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
    for status, description in ((403, "May not"), (429, "Too many requests"), (503, "Not at the moment"))
}
"""What a gate refuses, in the contract's own form (requirements, section 3)."""


def install(app: FastAPI) -> None:
    """Answers all errors of ``app`` with problems."""
    app.add_exception_handler(ProblemError, _of_error)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(RequestValidationError, _of_fields)


def _of_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem(error.status, error.detail, error.headers, error.fields)


def _of_framework(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: _NOTHING_HERE,
        405: "This path has no such method.",
        413: "The body is too large.",
    }
    return problem(
        error.status_code, details.get(error.status_code, "The request cannot be read."), error.headers or {}
    )


def _of_fields(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [FieldProblem(field=_name(one["loc"]), message=_message(one)) for one in error.errors()[:FIELDS_MAX]]
    return problem(422, "A field is not what it must be.", fields=fields)


def _name(place: tuple[int | str, ...]) -> str:
    """Where it is, as ``query.month``; a name that none of ours can be is the caller's own and left out."""
    parts = [str(part) for part in place]
    return ".".join(
        part if part.replace("_", "").replace("-", "").isalnum() and part.isascii() and len(part) <= 64 else "?"
        for part in parts
    )


def _message(one: Mapping[str, Any]) -> str:
    """Pydantic's words, which hold what was expected; never what came."""
    kind = str(one["type"])
    if kind.startswith(("json", "datetime", "value_error", "assertion_error")):
        return {"json_invalid": "must be JSON"}.get(kind, "is not a value that this field can have")
    return str(one["msg"])
