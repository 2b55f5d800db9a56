"""Who calls what: the fixed rule that turns rows of a trace into HTTP calls of tenants.

A trace has no tenants. The rule, the same in every replay:

- **Tenant**: drawn for each row from a Zipf law with exponent 2 over the tenants in the order given (of three, the
  first makes 73 % of the calls, the second 18 %, the third 8 %), by a generator seeded with ``SEED``.
- **Key**: a tenant with several keys uses them in turn, by ``line``.
- **Operation**: by ``(line + ContextTokens + GeneratedTokens) mod 100``, looked up in ``OPERATION_MIX``.
- **Quantities**: from the row's tokens, as each entry of ``OPERATION_MIX`` says. Inference uses them unchanged.

Callers know secrets and addresses, nothing else: no key id, no price, no limit.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple, TypeVar

from stack.trace import TraceRow

SEED: Final = 20_231_116
ZIPF_EXPONENT: Final = 2.0
EMBEDDING_MODELS: Final = ("text-small", "image-base", "multimodal-large")
MEGABYTE: Final = 10**6

TenantT = TypeVar("TenantT")


class Call(NamedTuple):
    """One HTTP call; ``body`` is sent as JSON, None for a GET."""

    method: str
    path: str
    body: dict[str, int | str] | None = None


def _llm(row: TraceRow) -> Call:
    tokens: dict[str, int | str] = {"input_tokens": row.context_tokens, "output_tokens": row.generated_tokens}
    return Call("POST", "/v1/inference/llm", tokens)


def _embedding(row: TraceRow) -> Call:
    text = f"text {row.context_tokens % 200}"
    return Call("POST", "/v1/inference/embedding", {"model": EMBEDDING_MODELS[row.context_tokens % 3], "text": text})


def _retriever(row: TraceRow) -> Call:
    tokens: dict[str, int | str] = {"input_tokens": row.context_tokens, "output_tokens": row.generated_tokens}
    return Call("POST", f"/v1/retrievers/retriever-{row.line % 5}/execute", tokens)


def _documents(row: TraceRow) -> Call:
    return Call("POST", "/v1/documents", {"documents": 1 + row.generated_tokens % 10})


def _upload(row: TraceRow) -> Call:
    return Call("POST", "/v1/upload", {"bytes": 1 + (row.context_tokens * 977) % (5 * MEGABYTE)})


def _video(row: TraceRow) -> Call:
    return Call("POST", "/v1/videos", {"milliseconds": 1 + (row.context_tokens * 7) % 120_000})


def _cluster(row: TraceRow) -> Call:
    return Call("POST", f"/v1/clusters/cluster-{row.line % 3}/execute", {"dataset_size": row.context_tokens * 20})


OPERATION_MIX: Final[tuple[tuple[int, Callable[[TraceRow], Call]], ...]] = (
    (35, _llm),
    (15, _embedding),
    (12, lambda _: Call("POST", "/v1/search/knn", {})),
    (6, lambda _: Call("POST", "/v1/search/hybrid", {})),
    (2, lambda _: Call("POST", "/v1/search/web", {})),
    (8, _retriever),
    (6, _documents),
    (4, _upload),
    (1, _video),
    (1, _cluster),
    (8, lambda _: Call("GET", "/v1/collections")),
    (2, lambda row: Call("POST", "/v1/collections", {"name": f"collection-{row.line}"})),
)
"""Percent of calls, and the call that a row becomes; the percents sum to 100."""

_ENDS: Final = tuple(accumulate(percent for percent, _ in OPERATION_MIX))


def call_of(row: TraceRow) -> Call:
    """The call that ``row`` becomes."""
    slot = (row.line + row.context_tokens + row.generated_tokens) % 100
    return OPERATION_MIX[bisect_right(_ENDS, slot)][1](row)


def tenants_drawn(tenants: Sequence[TenantT]) -> Iterator[TenantT]:
    """An endless draw of ``tenants`` (at least one) by the rule's Zipf law; the same in every replay."""
    weights = [1 / rank**ZIPF_EXPONENT for rank in range(1, len(tenants) + 1)]
    ends = list(accumulate(weights))
    generator = random.Random(SEED)  # noqa: S311 - a repeatable draw, no secret
    while True:
        yield tenants[bisect_right(ends, generator.random() * ends[-1], hi=len(tenants) - 1)]


FREE_CALL: Final = Call("GET", "/v1/collections")
"""What the key that goes over its rate asks for: free of credits, so that only its rate stops it."""


def spending_calls() -> Iterator[Call]:
    """What the organization that uses up its credits asks for, endlessly: three answers of 9,000 tokens (90 credits
    each), then something free, which must still be answered after the credits are gone."""
    while True:
        for _ in range(3):
            yield Call("POST", "/v1/inference/llm", {"input_tokens": 8_900, "output_tokens": 100})
        yield FREE_CALL
