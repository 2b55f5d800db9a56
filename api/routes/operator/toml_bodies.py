"""Bodies that are the TOML files which the command line takes, too."""

from typing import Any, Final

from fastapi import Request

from ...problems import FieldProblem, ProblemError

MEDIA_TYPE: Final = "application/toml"
TOML_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}
"""What a route's decorator says of its body."""


async def toml_text(request: Request) -> str:
    """The body. Raises ProblemError where it says to be something else, or is no text."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise ProblemError(415, f"The body must be {MEDIA_TYPE}.")
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError:
        fields = [FieldProblem(field="body", message="must be UTF-8")]
        raise ProblemError(422, "A field is not what it must be.", fields=fields) from None
