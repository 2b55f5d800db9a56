"""One call that answers allowed or refused, from what this process knows, without waiting for anything."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, Protocol

from sluicegate_schemas.bounds import from_epoch_ms
from sluicegate_schemas.limits import LimitName

from ..clock import Clock, epoch_ms
from ..follower.view import Block, Key, Organization, View
from . import bodies
from .headers import Header, Shown, ceil_s, rate_limit_headers
from .limiter import MINUTE_MS, SECOND_MS, Bucket, Level, Limiter, buckets_of
from .verdicts import Asked, credit_block, rate_blocks

_SECRET: Final = re.compile(r"sk_(?:live|test)_[A-Za-z0-9_-]{8,200}\Z", re.ASCII)
_PERIOD_MS: Final[dict[LimitName, int]] = {"requests_per_second": SECOND_MS, "requests_per_minute": MINUTE_MS}
_JSON: Final[Header] = ("Content-Type", "application/json")
_NO_STORE: Final[Header] = ("Cache-Control", "no-store")


class Knowledge(Protocol):
    """Where a gate's knowledge comes from: a ``Follower``, or a view that a test filled."""

    @property
    def view(self) -> View:
        """What is known."""

    @property
    def ready(self) -> bool:
        """Whether all that stood in the topics at the start is in the view."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """``when_not_ready`` is the answer until the follower has caught up once: "refuse" with 503, since until then the
    gate can tell neither a good key from a bad one nor a blocked account from an open one; or "admit", unmetered, for a
    service that authenticates its callers itself and would rather serve than be safe.

    Later, when decisions stop arriving, what is known stays in force: the gate's own buckets go on, standing blocks
    stand until their time, and blocks that it has not heard of are missing (it fails open for those).
    ``keys_max`` bounds the buckets; see ``Limiter``.
    """

    when_not_ready: Literal["refuse", "admit"] = "refuse"
    keys_max: int = 200_000


class Answer(NamedTuple):
    """What to do with a request: run it and add ``headers`` to its response, or answer ``status``, ``headers`` and
    ``body``. ``key`` is known for all but 401 and 503."""

    allowed: bool
    status: int
    headers: list[Header]
    body: bytes | None = None
    key: Key | None = None
    decision_id: str | None = None


class _Fired(NamedTuple):
    """A rate limit that refused the request."""

    shown: Shown
    window: str
    wait_ms: int
    scope: str
    decision_id: str | None


class Gate:
    """Answers by local buckets and the decisions at hand (requirements, section 3). Not for several threads at once."""

    def __init__(self, knowledge: Knowledge, settings: GateSettings | None = None, *, clock: Clock = epoch_ms) -> None:
        self.settings = settings or GateSettings()
        self.limiter = Limiter(self.settings.keys_max)
        self._knowledge = knowledge
        self._clock = clock

    def check(
        self,
        secret: str | None,
        operation: str,
        *,
        charges: tuple[str, ...] = (),
        cached: bool = False,
        now_ms: int | None = None,
    ) -> Answer:
        """Answers a request that carries ``secret`` and takes its token.

        ``charges`` names operations that it is going to be charged for besides ``operation`` (a retriever's stages):
        a credit block then holds for them too. ``cached`` says that it is already known to be a cache hit. A request
        passes all its buckets or takes from none; a 403 has taken its token; a 429 takes none.
        """
        now = self._clock() if now_ms is None else now_ms
        if not self._knowledge.ready:
            if self.settings.when_not_ready == "admit":
                return Answer(True, 200, [])
            return _unavailable("The service is starting")
        view = self._knowledge.view
        if not secret:
            return _unauthenticated("Missing API key", "Bearer")
        key = view.key(hashlib.sha256(secret.encode()).hexdigest()) if _SECRET.match(secret) else None
        if key is None and not view.complete and _SECRET.match(secret):
            return _unavailable("The key cannot be checked at the moment")
        if key is None or key.revoked:
            return _unauthenticated("Invalid API key", 'Bearer error="invalid_token"')
        organization = view.organization(key.organization_id)
        catalogue = view.catalogue_at(now)
        if organization is None or catalogue is None:
            return _unavailable("The limits of this key are not known yet")
        rates = catalogue.rates(organization.tier, organization.rates)
        buckets = buckets_of(rates) if rates is not None else ()
        asked = Asked(operation, charges, cached)

        blocks = rate_blocks(view, key, asked, now)
        if blocks:
            levels, admitted = self.limiter.peek(key.api_key_id, buckets, now), False
        else:
            admitted, levels = self.limiter.take(key.api_key_id, buckets, now)
        shown = [_shown(level, now) for level in levels]
        if not admitted:
            return _refuse_rate(key, shown, levels, blocks, now)
        headers = rate_limit_headers(shown, shown[-1], now) if shown else []
        block = credit_block(view, key, asked, catalogue, now)
        if block is not None:
            return _refuse_credits(key, organization, block, headers, now)
        return Answer(True, 200, headers, key=key)


def _shown(level: Level, now_ms: int) -> Shown:
    bucket = level.bucket
    full_at_ms = now_ms + level.full_in_ms
    return Shown(
        bucket.name, bucket.limit, bucket.window_s, bucket.capacity, bucket.fill_s, level.remaining, full_at_ms
    )


def _refuse_rate(key: Key, shown: list[Shown], levels: tuple[Level, ...], blocks: list[Block], now_ms: int) -> Answer:
    """429 by the limit that takes longest to clear, of the gate's own buckets and the workers' blocks."""
    own = {item.name: item for item in shown}
    fired = [
        _Fired(item, level.bucket.window, level.wait_ms, f"key:{key.api_key_id}", None)
        for item, level in zip(shown, levels, strict=True)
        if level.wait_ms > 0
    ]
    fired += [_fired_by(block, own.get(block.limit_name), now_ms) for block in blocks]
    longest = max(fired, key=lambda item: (item.wait_ms, item.decision_id is not None))
    by_name = {item.shown.name: item.shown for item in sorted(fired, key=lambda item: item.wait_ms)}
    limits = [by_name.pop(item.name, item) for item in shown] + list(by_name.values())
    retry_after_s = max(1, ceil_s(longest.wait_ms))
    body = bodies.too_many_requests(
        limit=longest.shown.limit,
        window=longest.window,
        retry_after_s=retry_after_s,
        scope=longest.scope,
        limit_name=longest.shown.name,
        decision_id=longest.decision_id,
    )
    headers = [("Retry-After", str(retry_after_s)), *rate_limit_headers(limits, longest.shown, now_ms)]
    return Answer(False, 429, [_JSON, _NO_STORE, *headers], body, key, longest.decision_id)


def _fired_by(block: Block, own: Shown | None, now_ms: int) -> _Fired:
    """A worker's rate block. The worker's bucket holds ``observed`` requests, so that is full again later than the
    gate's; a block without an end is tried again after one period."""
    period_ms = _PERIOD_MS[block.limit_name]
    bucket = Bucket(block.limit_name, own.limit if own else max(1, block.limit), period_ms, max(1, block.limit))
    until_ms = now_ms + period_ms if block.until_ms is None else block.until_ms
    drained_at_ms = block.decided_at_ms + -(-block.observed * period_ms // bucket.rate)
    full_at_ms = max(until_ms, drained_at_ms, own.full_at_ms if own else 0)
    shown = Shown(
        bucket.name,
        bucket.limit,
        bucket.window_s,
        own.capacity if own else bucket.capacity,
        own.fill_s if own else bucket.fill_s,
        0,
        full_at_ms,
    )
    return _Fired(shown, bucket.window, until_ms - now_ms, block.scope, block.decision_id)


def _refuse_credits(key: Key, organization: Organization, block: Block, headers: list[Header], now_ms: int) -> Answer:
    reset_at = from_epoch_ms(block.until_ms) if block.until_ms is not None else _next_month(from_epoch_ms(now_ms))
    body = bodies.credits_used_up(
        used_micro=block.observed,
        total_micro=block.limit,
        tier=organization.tier,
        reset_date=reset_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        scope=block.scope,
        decision_id=block.decision_id,
    )
    return Answer(False, 403, [_JSON, _NO_STORE, *headers], body, key, block.decision_id)


def _next_month(now: datetime) -> datetime:
    return datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)


def _unauthenticated(message: str, challenge: str) -> Answer:
    """401 with the challenge of RFC 6750, section 3."""
    return Answer(False, 401, [_JSON, _NO_STORE, ("WWW-Authenticate", challenge)], bodies.not_authenticated(message))


def not_found() -> Answer:
    """404, for a request that is no operation: it reaches neither buckets nor application."""
    return Answer(False, 404, [_JSON, _NO_STORE], bodies.not_found())


def _unavailable(message: str) -> Answer:
    return Answer(False, 503, [_JSON, _NO_STORE, ("Retry-After", "1")], bodies.not_available(message))
