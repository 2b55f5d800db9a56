"""What a handler reports of its own request while it runs."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Unpack

from msgspec.structs import replace

from sluicegate_schemas import bounds
from sluicegate_schemas.envelope import WireCharge
from sluicegate_schemas.wire_checks import is_label, is_name, is_subject

from .gate.asked import Description, amounts_of


@dataclass(slots=True)
class Usage:
    """The usage of one request, filled by its handler and metered when the request ends.

    ``quantities`` are whole numbers by name (tokens, bytes, milliseconds, seconds, documents, dataset_size); what is in
    them at that moment counts, so a stream that adds as it goes pays for what it delivered when the client cuts it.
    """

    operation: str
    quantities: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    cached: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    resource_delta: dict[str, int] = field(default_factory=dict)
    subject: str | None = None
    charges: list[WireCharge] = field(default_factory=list)
    charges_lost: int = 0
    """Charges beyond the most that one event holds: not metered, logged."""
    ask_again: Callable[[Description], Awaitable[None]] | None = field(default=None, repr=False, compare=False)
    """Set while the request runs; see ``expect``."""

    async def expect(self, **described: Unpack[Description]) -> None:
        """Says what the request is going to do, now that its handler knows: before it does it. ::

            await sluicegate.current().expect(creates=len(documents), objects=len(documents))

        The fields are those of ``Asked``; ``charges`` come on top of those said before. Where a quota, budget or size
        does not allow it, the request is answered with that refusal: raises RefusedError, which the handler lets
        through, unless it can do with less and expects that. In the event loop of the request only; a handler in a
        thread uses its framework's way there (``anyio.from_thread.run``).
        """
        if self.ask_again is not None:
            await self.ask_again(described)

    def all_charges(self) -> list[WireCharge]:
        """The operation itself and what was charged inside it, without quantities that none can be."""
        own = WireCharge(self.operation, self.quantities, self.model, self.cached)
        return [replace(one, quantities=amounts_of(one.quantities or {}) or None) for one in (own, *self.charges)]

    def charge(self, operation: str, *, model: str | None = None, cached: bool = False, **quantities: int) -> None:
        """Adds a charge of another operation inside this request: ``usage.charge("inference.llm", tokens=812)``."""
        if len(self.charges) >= bounds.CHARGES_MAX:
            self.charges_lost += 1
            return
        self.charges.append(WireCharge(operation, dict(quantities) or None, model, cached))

    def leave_out_unusable(self) -> bool:
        """Leaves out models, labels and a subject that no event may carry; returns whether there were any.

        They often come from the caller, whose text must not make its own request unmetered.
        """
        charges = [one if one.model is None or is_name(one.model) else replace(one, model=None) for one in self.charges]
        labels = dict(islice((one for one in self.labels.items() if is_label(*one)), bounds.LABELS_MAX))
        model = self.model if is_name(self.model) else None
        subject = self.subject if is_subject(self.subject) else None
        before = self.charges, self.labels, self.model, self.subject
        self.charges, self.labels, self.model, self.subject = charges, labels, model, subject
        return before != (charges, labels, model, subject)


CURRENT: Final[ContextVar[Usage | None]] = ContextVar("sluicegate_usage", default=None)


def current() -> Usage:
    """The usage of the request that is being handled, also in the threads that the framework runs handlers in.

    Outside a metered request it is a fresh one that nothing reads, so handlers run unchanged in tests.
    """
    return CURRENT.get() or Usage("unmetered")
