"""Who asks: a customer by its API key, an operator by a credential of its own (requirements, section 4).

An unknown, a revoked and a malformed key get the same answer after the same work: one SHA-256 and one look-up by it, of
which a caller learns nothing by timing. Only hashes are held.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from sluicegate.gate.gate import Knowledge
from sluicegate_schemas.accounts import KEY_SCOPES, KeyScope

from .operators import Operator, OperatorScope, operator_with
from .problems import ProblemError, away

AUTHORIZATION_BYTES_MAX: Final = 512
Headers = list[tuple[bytes, bytes]]
_ALL: Final[frozenset[KeyScope]] = frozenset(KEY_SCOPES)


class Caller(NamedTuple):
    """The customer's key that a request carries."""

    api_key_id: str
    organization_id: str
    account_id: str
    scopes: frozenset[KeyScope]


def bearer(headers: Headers) -> str | None:
    """The Bearer token (RFC 6750, section 2.1); None where there is none, or more than one Authorization field."""
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) != 1 or len(found[0]) > AUTHORIZATION_BYTES_MAX:
        return None
    scheme, _, token = found[0].strip().partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


def customer_of(knowledge: Knowledge, headers: Headers) -> Caller:
    """The key that ``headers`` carry. Raises ProblemError: 401, or 503 until the keys are known."""
    if not knowledge.ready:
        raise away("Keys are not known yet")
    secret = bearer(headers)
    key = knowledge.view.key(hashlib.sha256((secret or "").encode()).hexdigest())
    if secret is None or key is None or key.revoked:
        # Of a view that is full also for who is known to be revoked: else the answer says whose key was one.
        raise unauthenticated() if knowledge.view.complete else away("The key cannot be checked")
    scopes = _ALL if key.scopes is None else frozenset(key.scopes)
    return Caller(key.api_key_id, key.organization_id, key.account_id, scopes)


def check_scopes(caller: Caller, *needed: KeyScope) -> None:
    """Raises ProblemError where the key lacks one of ``needed``: 403, which names it (RFC 6750, section 3.1)."""
    lacks = " ".join(scope for scope in needed if scope not in caller.scopes)
    if lacks:
        challenge = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{lacks}"'}
        raise ProblemError(403, f"This key lacks: {lacks}.", challenge)


def unauthenticated() -> ProblemError:
    """401, the same for every reason."""
    return ProblemError(401, "This needs a valid credential.", {"WWW-Authenticate": "Bearer"})


_KEY: Final = HTTPBearer(scheme_name="ApiKey", description="An API key: sk_live_… or sk_test_….", auto_error=False)
_CREDENTIAL: Final = HTTPBearer(scheme_name="Operator", description="An operator's credential.", auto_error=False)
_Declared = HTTPAuthorizationCredentials | None


def _customer(*needed: KeyScope) -> Any:
    async def find(request: Request, _declared: Annotated[_Declared, Security(_KEY)]) -> Caller:
        found: Caller | None = request.scope.get("state", {}).get("caller")
        caller = found or customer_of(request.app.state.parts.knowledge, request.scope["headers"])
        check_scopes(caller, *needed)
        return caller

    return find


def operator_of(operators: Sequence[Operator], headers: Headers) -> Operator:
    """The operator whose credential ``headers`` carry. Raises ProblemError: 401, or 403 where there are none."""
    if not operators:
        raise ProblemError(403, "The operator API is off until it is configured.")
    operator = operator_with(operators, bearer(headers))
    if operator is None:
        raise unauthenticated()
    return operator


def _operator(scope: OperatorScope) -> Any:
    async def find(request: Request, _declared: Annotated[_Declared, Security(_CREDENTIAL)]) -> Operator:
        operator = operator_of(request.app.state.parts.operators, request.scope["headers"])
        if not operator.may(scope):
            raise ProblemError(403, "This credential may not do that.")
        return operator

    return find


ReadsUsage = Annotated[Caller, Depends(_customer("usage:read"))]
"""A parameter of this type makes a route need an API key that has this scope; its organization is all that the route
may read of. A good key without it is answered 403, any other 401 as ever."""
ReadsLimits = Annotated[Caller, Depends(_customer("limits:read"))]
"""The same, with the scope ``limits:read``: of plan, limits and decisions."""
ReadsAlerts = Annotated[Caller, Depends(_customer("alerts:read"))]
"""The same, with the scope ``alerts:read``."""
ReadsAll = Annotated[Caller, Depends(_customer(*KEY_SCOPES))]
"""The same, with all scopes."""
OperatorReads = Annotated[Operator, Depends(_operator("read"))]
"""A parameter of this type makes a route need an operator's credential."""
OperatorWrites = Annotated[Operator, Depends(_operator("write"))]
"""The same, with the scope ``write``."""
