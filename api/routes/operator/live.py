"""``GET /v1/operator/live``: blocks of all organizations as they come and go, as server-sent events."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...auth import Headers, OperatorReads, operator_of
from ...live import OPERATORS
from ...problems import ProblemError
from ..live import STREAMS, EventStream
from .asking import PREFIX, parts_of

router = APIRouter(tags=["operator looks"])


@router.get(f"{PREFIX}/live", **STREAMS)
async def live(request: Request, operator: OperatorReads) -> Response:
    """Events `block` and `clear`, in the form of /v1/operator/blocks, which says what stood before. Last-Event-ID goes
    on where a stream broke off; a comment each 15 s says that it lives."""
    parts = parts_of(request)

    def may_read(headers: Headers) -> bool:
        try:
            return operator_of(parts.operators, headers) == operator
        except ProblemError:
            return False

    last = request.headers.get("last-event-id", "")
    return EventStream(request.app.state.operators_hub, OPERATORS, may_read, list, last)
