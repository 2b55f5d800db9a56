"""Admit: which events of a record can be counted here, which belong elsewhere, which nowhere.

Nothing is changed in this step, so that a record can be left for later as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluicegate_schemas.decode import Malformed, validate_event
from sluicegate_schemas.envelope import WireEvent, WireGauge, WireLeaseRequest
from sluicegate_schemas.outputs import RejectReason
from sluicegate_schemas.partitioning import partition_of

from .route_table import RouteTable
from .routes import Route
from .tables import KeyRow, OrganizationRow


@dataclass(slots=True)
class Admission:
    """What is to be done with the events of a record. ``routes`` has None for an event that is not counted here."""

    routes: list[Route | None]
    is_unknown: bool = False
    """An event names an organization or key that is not known (yet)."""
    refused: list[tuple[int, RejectReason, str | None, str]] = field(default_factory=list)
    """(index, reason, field, detail)."""
    forwarded: list[tuple[int, str, int]] = field(default_factory=list)
    """(index, account, home partition)."""


class Admitter:
    """Knows the partition's organizations and keys, and its own number among all."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        organizations: Mapping[str, OrganizationRow],
        keys: Mapping[str, KeyRow],
        routes: RouteTable,
    ) -> None:
        self._partition = partition
        self._partitions = partitions
        self._organizations = organizations
        self._keys = keys
        self._routes = routes

    def is_early(self, content: WireGauge | WireLeaseRequest) -> bool:
        """Whether it names an organization that should be known here, and is not (yet)."""
        if partition_of(content.account_id, self._partitions) != self._partition:
            return False
        named = [one.org_id for one in content.organizations] if isinstance(content, WireGauge) else [content.org_id]
        return any(org_id not in self._organizations for org_id in named)

    def known(self, event: WireEvent) -> Route | None:
        """The event's route, if it was found before: then nothing more is to be decided about it."""
        route = self._routes.get((event.api_key_id, event.operation))
        if (
            route is None
            or route.organization_id != event.org_id
            or (event.account_id is not None and event.account_id != route.account_id)
        ):
            return None
        return route

    def admit(self, events: list[WireEvent], *, is_forward: bool = False) -> Admission:
        """Looks up each event's route; decides about those that have none."""
        find = self._routes.get
        routes: list[Route | None] = [find((event.api_key_id, event.operation)) for event in events]
        admission = Admission(routes)
        for index, (event, route) in enumerate(zip(events, routes, strict=True)):
            if (
                route is None
                or route.organization_id != event.org_id
                or (event.account_id is not None and event.account_id != route.account_id)
            ):
                routes[index] = self._settle(admission, index, event, is_forward=is_forward)
        return admission

    def _settle(self, admission: Admission, index: int, event: WireEvent, *, is_forward: bool) -> Route | None:
        def refuse(reason: RejectReason, field: str | None, detail: str) -> None:
            admission.refused.append((index, reason, field, detail))

        try:
            validate_event(event)
        except Malformed as malformed:
            refuse(malformed.reason, malformed.field, malformed.detail)
            return None
        if event.api_key_id is None and any(one.operation != event.operation for one in event.charges or ()):
            refuse("invalid", "api_key_id", "is required for charges of all operations but storage")
            return None
        organization = self._organizations.get(event.org_id)
        account_id = event.account_id or (event.org_id if organization is None else organization.account_id)
        home = partition_of(account_id, self._partitions)
        if home != self._partition:
            if is_forward:
                refuse("invalid", "account_id", "was forwarded to a partition that is not its home")
            else:
                admission.forwarded.append((index, account_id, home))
            return None
        if organization is None:
            admission.is_unknown = True
            refuse("unknown_organization", "org_id", "is not known in its account's partition")
            return None
        if organization.account_id != account_id:
            refuse("invalid", "account_id", "is not the account of the organization")
            return None
        key = None if event.api_key_id is None else self._keys.get(event.api_key_id)
        if key is None and event.api_key_id is not None:
            admission.is_unknown = True
        if (key is None and event.api_key_id is not None) or (key is not None and key.organization_id != event.org_id):
            refuse("unknown_key", "api_key_id", "is not a key of the organization")
            return None
        return self._routes.find(event.org_id, event.api_key_id or "", event.operation)
