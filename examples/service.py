"""An API with priced operations behind the gate; run it with ``uvicorn --factory examples.service:create_app``.

Metering and gating are the three lines at the end of ``create_app``. The handlers report what only they know (tokens,
bytes, a cache hit) with ``current()``; prices, limits and tenants are nowhere in this file.

The answers are made up: this service shows metering, it has no models and keeps nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluicegate import Operation, Sluicegate, current
from sluicegate.gate import Description
from sluicegate.operations import Routes

BODY_BYTES_MAX: Final = 64 * 1024
CACHE_ENTRIES_MAX: Final = 1_000

OPERATIONS: Final[Routes] = {
    "POST /v1/inference/llm": "inference.llm",
    "POST /v1/inference/embedding": "inference.embedding",
    "POST /v1/search/knn": "search.knn",
    "POST /v1/search/hybrid": "search.hybrid",
    "POST /v1/search/web": "search.web",
    "POST /v1/retrievers/{id}/execute": Operation("retriever.execute", charges=("search.knn", "inference.llm")),
    "POST /v1/documents": "documents.create",
    "GET /v1/documents": "documents.list",
    "POST /v1/upload": "upload.file",
    "POST /v1/videos": "video.process",
    "POST /v1/clusters/{id}/execute": "cluster.execute",
    "GET /v1/collections": "collections.list",
    "POST /v1/collections": "collections.create",
    "DELETE /v1/collections/{name}": "collections.delete",
    "POST /v1/batches/{id}/submit": "batch.submit",
}

Amount = Annotated[int, Field(ge=0, le=10**12)]


class Body(BaseModel):
    """What a caller sends: known fields of the right type, nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Nothing(Body):
    """No field."""


class Tokens(Body):
    """How long the question was and the answer shall be."""

    input_tokens: Amount
    output_tokens: Amount


class Text(Body):
    """What to embed, and how."""

    model: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    text: Annotated[str, Field(max_length=10_000)]


class Documents(Body):
    """How many documents are created."""

    documents: Annotated[int, Field(ge=1, le=10_000)]


class File(Body):
    """How long the file is."""

    bytes: Amount


class Work(Body):
    """Work that takes its time: as long as the caller says, since nothing is done here."""

    takes_ms: Annotated[int, Field(ge=0, le=60_000)] = 0


class Video(Work):
    """How long the video is."""

    milliseconds: Amount


class Dataset(Work):
    """How much there is to cluster."""

    dataset_size: Amount


class Collection(Body):
    """The collection's name."""

    name: Annotated[str, Field(min_length=1, max_length=64)]


BodyT = TypeVar("BodyT", bound=Body)


async def read(request: Request, model: type[BodyT]) -> BodyT:
    """The request's body. Raises HTTPException: 413 if it is too long, 422 if it is not what ``model`` wants."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > BODY_BYTES_MAX:
            raise HTTPException(413, f"The body is longer than {BODY_BYTES_MAX} bytes")
    try:
        return model.model_validate_json(content or b"{}")
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "body"
        raise HTTPException(422, f"{field}: {problem['msg']}") from None


async def llm(request: Request) -> Response:
    """Answers with as many tokens as were asked for."""
    body = await read(request, Tokens)
    current().quantities["tokens"] = body.input_tokens + body.output_tokens
    return JSONResponse({"success": True, "usage": body.model_dump()})


async def embedding(request: Request) -> Response:
    """Embeds a text; one that was embedded before comes from the cache, and costs nothing."""
    body = await read(request, Text)
    usage = current()
    usage.model = body.model
    usage.cached = request.app.state.embedded.hit((body.model, body.text))
    return JSONResponse({"success": True, "model": body.model, "cached": usage.cached, "embedding": [0.0] * 8})


async def search(request: Request) -> Response:
    """Finds nothing; its price is by the request."""
    await read(request, Nothing)
    return JSONResponse({"success": True, "results": []})


async def retriever(request: Request) -> Response:
    """One request, two charges: a nearest-neighbour search, and a model that writes the answer."""
    body = await read(request, Tokens)
    usage = current()
    usage.charge("search.knn")
    usage.charge("inference.llm", tokens=body.input_tokens + body.output_tokens)
    return JSONResponse({"success": True, "retriever": request.path_params["id"], "results": []})


async def create_documents(request: Request) -> Response:
    """Creates documents, and takes them from the quota."""
    body = await read(request, Documents)
    usage = current()
    await usage.expect(creates=body.documents, objects=body.documents, quantities={"documents": body.documents})
    usage.quantities["documents"] = body.documents
    usage.resource_delta["documents"] = body.documents
    return JSONResponse({"success": True, "created": body.documents}, 201)


async def upload(request: Request) -> Response:
    """Takes a file's length for the file."""
    body = await read(request, File)
    current().quantities["bytes"] = body.bytes
    return JSONResponse({"success": True, "bytes": body.bytes}, 201)


async def video(request: Request) -> Response:
    """Processes a video of the given length."""
    body = await read(request, Video)
    await asyncio.sleep(body.takes_ms / 1000)
    current().quantities["milliseconds"] = body.milliseconds
    return JSONResponse({"success": True, "milliseconds": body.milliseconds})


async def cluster(request: Request) -> Response:
    """Clusters a dataset of the given size."""
    body = await read(request, Dataset)
    usage = current()
    usage.quantities["dataset_size"] = body.dataset_size
    await asyncio.sleep(body.takes_ms / 1000)
    return JSONResponse({"success": True, "cluster": request.path_params["id"]})


async def batch(request: Request) -> Response:
    """Submits a batch: once a minute each."""
    await read(request, Nothing)
    return JSONResponse({"success": True, "batch": request.path_params["id"]}, 202)


async def create_collection(request: Request) -> Response:
    """Creates a collection: free of credits."""
    body = await read(request, Collection)
    current().resource_delta["collections"] = 1
    return JSONResponse({"success": True, "name": body.name}, 201)


async def delete_collection(request: Request) -> Response:
    """Deletes a collection, which gives its place in the quota back."""
    current().resource_delta["collections"] = -1
    return JSONResponse({"success": True, "name": request.path_params["name"]})


async def nothing(_: Request) -> Response:
    """An empty list: free of credits."""
    return JSONResponse({"success": True, "results": []})


class Seen:
    """The last ``CACHE_ENTRIES_MAX`` things that were asked for."""

    def __init__(self) -> None:
        self._entries: OrderedDict[object, None] = OrderedDict()

    def hit(self, entry: object) -> bool:
        """Whether ``entry`` is there; it is from now on. The one asked for longest ago makes room."""
        known = entry in self._entries
        self._entries[entry] = None
        self._entries.move_to_end(entry)
        if len(self._entries) > CACHE_ENTRIES_MAX:
            self._entries.popitem(last=False)
        return known


async def failed(_: Request, error: Exception) -> Response:
    """A refusal in the form that all answers have."""
    assert isinstance(error, HTTPException)
    body = {"success": False, "status": error.status_code, "error": {"message": error.detail}}
    return JSONResponse(body, error.status_code)


async def health(request: Request) -> Response:
    """200 once the gate knows keys and limits; neither gated nor metered."""
    ready = request.app.state.sluicegate.follower.ready
    return JSONResponse({"ready": ready}, 200 if ready else 503)


ROUTES: Final = [
    Route("/health", health),
    Route("/v1/inference/llm", llm, methods=["POST"]),
    Route("/v1/inference/embedding", embedding, methods=["POST"]),
    Route("/v1/search/knn", search, methods=["POST"]),
    Route("/v1/search/hybrid", search, methods=["POST"]),
    Route("/v1/search/web", search, methods=["POST"]),
    Route("/v1/retrievers/{id}/execute", retriever, methods=["POST"]),
    Route("/v1/documents", create_documents, methods=["POST"]),
    Route("/v1/documents", nothing, methods=["GET"]),
    Route("/v1/upload", upload, methods=["POST"]),
    Route("/v1/videos", video, methods=["POST"]),
    Route("/v1/clusters/{id}/execute", cluster, methods=["POST"]),
    Route("/v1/collections", nothing, methods=["GET"]),
    Route("/v1/collections", create_collection, methods=["POST"]),
    Route("/v1/collections/{name}", delete_collection, methods=["DELETE"]),
    Route("/v1/batches/{id}/submit", batch, methods=["POST"]),
]

_SUBJECT: Final = re.compile(r"/v1/(?:clusters|batches)/([^/]+)/(?:execute|submit)")


def describe(scope: Mapping[str, Any]) -> Description:
    """The cluster or batch that a request is about: limits of their own are looked at before it runs."""
    match = _SUBJECT.fullmatch(scope["path"])
    return {"subject": match[1]} if match else {}


def create_app(sluicegate: Sluicegate | None = None) -> Starlette:
    """The service; brokers and the node's name come from the environment unless ``sluicegate`` is given."""
    sluicegate = sluicegate or Sluicegate.from_environment()
    api = Starlette(routes=ROUTES, lifespan=sluicegate.lifespan, exception_handlers={HTTPException: failed})
    api.add_middleware(sluicegate.middleware, operations=OPERATIONS, open_paths=("/health",), describe=describe)
    api.state.sluicegate, api.state.embedded = sluicegate, Seen()
    return api
