"""What the operators' routes have in common: who acts under which id, how long to wait, and what an answer is."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import quote

from aiokafka.errors import KafkaError
from fastapi import Header, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from sluicegate.errors import (
    ConfigurationError,
    InvalidFieldError,
    NotFoundError,
    PublishRefusedError,
    SluicegateError,
    TopicsMissingError,
)
from sluicegate.operator.commands import Fields, Outcome, as_command
from sluicegate.operator.known import Known
from sluicegate.operator.own_values import PendingError
from sluicegate.operator.submit import Origin, OtherCommandError
from sluicegate_schemas.bounds import EventId, Record, from_epoch_ms
from sluicegate_schemas.files import FileError
from sluicegate_schemas.outputs import OrganizationEntitlement, Reject, TrailEntry

from ...auth import OperatorWrites
from ...desk import Desk
from ...operators import Operator
from ...parts import Parts
from ...problems import FieldProblem, ProblemError, away, not_found

log = logging.getLogger("api.operator")

PREFIX: Final = "/v1/operator"
PENDING_S_MIN: Final = 2.0
"""How long a change waits at least for the answers of those before it, however short its caller waits for its own."""
KNOWN_HERE_S: Final = 2.0
"""How long an answer waits for this process to know the organization or key that a command made."""
CommandId = Annotated[
    EventId,
    Header(
        alias="Idempotency-Key",
        description="The command's id, of the caller's making: with the same request again, the first one's answer.",
    ),
]
WaitS = Annotated[float, Query(ge=0, le=15, description="Seconds to wait until a worker has obeyed or refused.")]
WAIT_S_DEFAULT: Final = 10.0
CONFLICT: Final = (
    "Others changed the organization at the same moment, and nothing of this was changed. Send it again; what names "
    "`based_on`, made of what stands there now."
)
Making = Callable[[Origin], Awaitable[Fields]]


class CommandOutcome(Record):
    """What became of a command. "applied": ``trail`` says what changed. "refused": ``reject`` says why. "pending": no
    worker has answered yet; ask again under the address in ``Location``, or repeat the request with its key."""

    command_id: str
    command: str
    account_id: str
    organization_id: str
    outcome: Literal["applied", "refused", "pending"]
    trail: TrailEntry | None
    reject: Reject | None


class Write(NamedTuple):
    """One request that changes something."""

    parts: Parts
    operator: Operator
    command_id: str
    wait_s: float


def write_of(
    request: Request, operator: OperatorWrites, command_id: CommandId, wait_s: WaitS = WAIT_S_DEFAULT
) -> Write:
    """A dependency: whoever has it needs a credential with the scope ``write``."""
    return Write(parts_of(request), operator, command_id, wait_s)


def parts_of(request: Request) -> Parts:
    """The application's parts."""
    parts: Parts = request.app.state.parts
    return parts


def desk_of(request: Request) -> Desk:
    """Where Kafka and ClickHouse are asked."""
    return parts_of(request).desk


def now_of(parts: Parts) -> datetime:
    """This process's clock."""
    return from_epoch_ms(parts.clock())


def known_of(parts: Parts) -> Known:
    """All organizations and keys. Raises ProblemError until they are known: what is not known yet is not "none"."""
    if not parts.knowledge.ready:
        raise away("Organizations and keys are not known yet")
    return parts.roster.known


def known_organization(known: Known, organization_id: str) -> OrganizationEntitlement:
    """Raises ProblemError for one that is not known."""
    try:
        return known.organization(organization_id)
    except NotFoundError:
        raise not_found("organization") from None


@asynccontextmanager
async def in_turn(write: Write, organization_id: str) -> AsyncIterator[None]:
    """The organization's turn: of the requests that put it, one after another. Raises ProblemError: 503."""
    async with AsyncExitStack() as turn:
        try:
            await turn.enter_async_context(write.parts.changing.of(organization_id, max(PENDING_S_MIN, write.wait_s)))
        except TimeoutError:
            raise away("Another change of the organization is under way", 1) from None
        yield


async def submit(write: Write, account_id: str, organization_id: str, making: Making) -> tuple[Fields, CommandOutcome]:
    """Sends the command whose own fields ``making`` gives; returns those it has, and what became of it.

    Raises ProblemError: 409 for an id of another command and for a conflict with others' changes, 422 where it is none
    or the worker refused it, 503.
    """

    async def make(origin: Origin) -> Any:
        shared = {
            "command_id": write.command_id,
            "issued_at": origin.issued_at,
            "issued_by": write.operator.name,
            "account_id": account_id,
        }
        return as_command({**await making(origin), **shared})

    with as_problems():
        command, outcome = await write.parts.desk.submit(
            make,
            account_id=account_id,
            command_id=write.command_id,
            now=now_of(write.parts),
            wait_s=write.wait_s,
        )
    if outcome.reject is not None:
        raise _refused(outcome.reject)
    if outcome.outcome == "applied":
        key_id = getattr(command, "api_key_id", None) if command.kind == "key.put" else None
        await write.parts.roster.wait_for(
            organization_id=organization_id, api_key_id=key_id, limit_s=min(KNOWN_HERE_S, write.wait_s)
        )
    return dict(command), shown(outcome)


def shown(outcome: Outcome) -> CommandOutcome:
    """Without what differs from one asking to the next."""
    return CommandOutcome(
        command_id=outcome.command_id,
        command=outcome.command,
        account_id=outcome.account_id,
        organization_id=outcome.organization_id,
        outcome=outcome.outcome if outcome.outcome in ("applied", "refused") else "pending",
        trail=outcome.trail,
        reject=outcome.reject,
    )


def _refused(reject: Reject) -> ProblemError:
    fields = [FieldProblem(field=reject.field or "", message=reject.detail)]
    if reject.reason == "conflict":
        return ProblemError(409, CONFLICT, {"Retry-After": "1"}, fields)
    return ProblemError(422, "The worker refused it; nothing changed.", fields=fields)


def outcome_answer(outcome: CommandOutcome, body: BaseModel | None = None, done: int = 200) -> Response:
    """``done`` where a worker obeyed, else 202 with the place to look; ``body`` instead of the outcome alone."""
    if outcome.outcome == "applied":
        return record_answer(body or outcome, done)
    place = f"{PREFIX}/accounts/{outcome.account_id}/commands?command_id={quote(outcome.command_id, safe='')}"
    return record_answer(body or outcome, 202, {"Location": place, "Retry-After": "1"})


def record_answer(record: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A record as JSON."""
    return Response(record.model_dump_json(), status, headers, "application/json")


def shows(model: type[BaseModel], *, done: int = 200, may_wait: bool = False) -> dict[str, Any]:
    """What a route's decorator says of its answers: their form alone, which ``record_answer`` makes."""
    responses: dict[int | str, dict[str, Any]] = {done: {"model": model}}
    if may_wait:
        responses[202] = {"model": model, "description": "Sent; no worker has answered yet"}
    return {"response_model": None, "status_code": done, "responses": responses}


@contextmanager
def as_problems() -> Iterator[None]:
    """What an operator's errors are over HTTP."""
    try:
        yield
    except OtherCommandError:
        raise ProblemError(409, "This Idempotency-Key was another command's; nothing changed.") from None
    except InvalidFieldError as error:
        raise _field(error.field, error.message) from None
    except FileError as error:
        raise _field(error.field or "", str(error)) from None
    except NotFoundError as error:
        raise ProblemError(404, f"{_sentence(error)}") from None
    except PendingError:
        raise away("An earlier change of the organization has no answer yet, and none can be made of it", 1) from None
    except PublishRefusedError as error:
        raise ProblemError(409, f"{_sentence(error)}") from None
    except TopicsMissingError:
        raise away("Topics are missing") from None
    except ConfigurationError as error:
        raise _field("", str(error)) from None
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("Kafka cannot be asked: %s", type(error).__name__)
        raise away("Kafka cannot be asked") from None
    except SluicegateError:
        raise away("What was found cannot be read by this version") from None


def _field(name: str, message: str) -> ProblemError:
    return ProblemError(422, "A field is not what it must be.", fields=[FieldProblem(field=name, message=message)])


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
