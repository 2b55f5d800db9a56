"""What a gate answers."""

from collections.abc import Awaitable
from typing import Final, NamedTuple

from ..follower.entries import Key
from . import bodies
from .asked import Asked
from .headers import Header, admitted_headers
from .limiter import Bucket, Held, stands_after
from .reserve import Spend
from .terms import Terms

JSON: Final[tuple[Header, ...]] = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class Admission(NamedTuple):
    """What a gate has to do when an admitted request begins."""

    key: Key
    terms: Terms
    asked: Asked
    spend: Spend | None
    """None: it costs nothing, or nothing is known that would have to pay for it."""


Passed = tuple[str, tuple[Bucket, ...], Held, int]
"""The buckets that a request passed: (their policy, buckets, what they hold after it, time in ms)."""


class Answer(NamedTuple):
    """What to do with a request: run it and add ``headers`` to its response, or answer ``status``, ``headers`` and
    ``body``. ``key`` is known for all but 401 and 503."""

    allowed: bool
    status: int
    told: "list[Header] | Passed"
    """What ``headers`` are made of."""
    body: bytes | None = None
    key: Key | None = None
    decision_id: str | None = None
    admission: Admission | None = None
    pending: Awaitable[object] | None = None
    """Where a refusal may be over in a moment: when this ends, ``Gate.reconsider`` may answer otherwise."""

    @property
    def headers(self) -> list[Header]:
        """Of the response. Made when they are asked for."""
        if isinstance(self.told, list):
            return self.told
        policy, buckets, taken, now_ms = self.told
        return admitted_headers(policy, stands_after(buckets, taken, now_ms), now_ms)


def unauthenticated(message: str, challenge: str) -> Answer:
    """401 with the challenge of RFC 6750, section 3."""
    return Answer(False, 401, [*JSON, ("WWW-Authenticate", challenge)], bodies.not_authenticated(message))


def not_found() -> Answer:
    """404, for a request that is no operation: it reaches neither buckets nor application."""
    return Answer(False, 404, [*JSON], bodies.not_found())


def unavailable(message: str, key: Key | None = None) -> Answer:
    """503, for now."""
    return Answer(False, 503, [*JSON, ("Retry-After", "1")], bodies.not_available(message), key)
