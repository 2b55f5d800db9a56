"""Answers as bytes: pydantic models say what they hold (and so the OpenAPI document), msgspec writes them.

Credits are exact: a decimal with at most six places goes into the JSON as it is, since a float could not hold it
(requirements, section 9). Nothing is validated on the way out: a model is made by our own code alone.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, SkipValidation, WithJsonSchema
from starlette.responses import Response

from sluicegate_schemas.money import credits_text

_CREDITS_SCHEMA: Final = {
    "type": "number",
    "description": "Credits: a decimal with at most six places, without exponent; whole numbers have no point.",
}
Credits = Annotated[msgspec.Raw, SkipValidation, WithJsonSchema(_CREDITS_SCHEMA)]
Amount = Annotated[
    msgspec.Raw,
    SkipValidation,
    WithJsonSchema({"type": "number", "description": "Credits where the limit is one on money, else a count."}),
]
Instant = Annotated[datetime, SkipValidation, WithJsonSchema({"type": "string", "format": "date-time"})]
"""An aware time in UTC."""


class Body(BaseModel):
    """The body of an answer. ``model_construct`` makes one; nobody outside ever does."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)


def in_credits(micro: int) -> msgspec.Raw:
    """An amount of micro-credits as a JSON number of credits."""
    return msgspec.Raw(credits_text(micro).encode("ascii"))


def in_count(count: int) -> msgspec.Raw:
    """A count as it is."""
    return msgspec.Raw(str(count).encode("ascii"))


def some_credits(micro: int | None) -> msgspec.Raw | None:
    """The same, where there may be none."""
    return None if micro is None else in_credits(micro)


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.__dict__
    raise TypeError(f"{type(value).__name__} has no place in an answer")


_ENCODE: Final = msgspec.json.Encoder(enc_hook=_plain).encode


def encode(body: object) -> bytes:
    """``body``, a model or what JSON knows, as JSON."""
    return _ENCODE(body)


def answer(body: Body, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``body`` as a response."""
    return Response(encode(body), status, dict(headers or {}), "application/json")


def shown_as(
    model: type[Body],
    *,
    also_200: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] | None = None,
    also: Mapping[int, Any] | None = None,
) -> dict[str, Any]:
    """What a route's decorator says of its 200: the form of its body alone, which ``answer`` makes; ``also_200`` are
    further media types of it, ``headers`` its fields, and ``also`` further answers."""
    said: dict[str, Any] = {"model": model}
    if also_200 is not None:
        said["content"] = dict(also_200)
    if headers is not None:
        said["headers"] = dict(headers)
    return {"response_model": None, "responses": {200: said, **(also or {})}}
