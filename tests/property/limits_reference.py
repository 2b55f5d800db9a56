"""The limits in force, naively: everything anew from all that was obeyed, with its log time."""

from dataclasses import dataclass, field

from sluicegate_schemas.accounts import (
    AnyCommand,
    BoostEnd,
    BoostPut,
    ExemptionEnd,
    ExemptionPut,
    KeyPut,
    KeyRevoke,
    OrganizationPut,
)
from sluicegate_schemas.bounds import from_epoch_ms, to_epoch_ms
from sluicegate_schemas.catalogue import Catalogue, Plan
from sluicegate_schemas.usage import ResourceName
from tests.domain_world import NOW_MS, default_catalogue

MINUTE_MS = 60_000
Rates = tuple[int, int, int]


def catalogues() -> list[Catalogue]:
    """The default one, and half an hour later one with another plan."""
    first = default_catalogue()
    team = first.plans["team"].model_copy(update={"concurrency": 120, "quotas": {"collections": 40, "buckets": None}})
    pro = first.plans["pro"].model_copy(update={"rates": first.plans["team"].rates, "credits_mode": "hard"})
    later = from_epoch_ms(NOW_MS + 30 * MINUTE_MS)
    plans = first.plans | {"team": team, "pro": pro}
    return [first, first.model_copy(update={"version": 2, "effective_at": later, "plans": plans})]


CATALOGUES = catalogues()


@dataclass
class Model:
    """What was obeyed."""

    now_ms: int = NOW_MS
    organizations: dict[str, OrganizationPut] = field(default_factory=dict)
    keys: dict[str, KeyPut] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    boosts: dict[tuple[str, str], BoostPut] = field(default_factory=dict)
    exemptions: dict[tuple[str, str], ExemptionPut] = field(default_factory=dict)
    done: dict[str, AnyCommand] = field(default_factory=dict)

    def obey(self, command: AnyCommand) -> None:
        """Carries a command out unless it has to be refused, or was done before."""
        if command.command_id in self.done or not self.may(command):
            return
        self.done[command.command_id] = command
        match command:
            case OrganizationPut():
                self.organizations[command.organization_id] = command
            case KeyPut():
                self.keys[command.api_key_id] = command
            case KeyRevoke():
                self.revoked.add(command.api_key_id)
            case BoostPut():
                self.boosts[command.organization_id, command.boost_id] = command
            case BoostEnd():
                del self.boosts[command.organization_id, command.boost_id]
            case ExemptionPut():
                self.exemptions[command.organization_id, command.exemption_id] = command
            case ExemptionEnd():
                del self.exemptions[command.organization_id, command.exemption_id]

    def may(self, command: AnyCommand) -> bool:
        """Whether it may be obeyed."""
        if isinstance(command, OrganizationPut):
            return True
        if command.about not in self.organizations:
            return False
        match command:
            case KeyPut():
                known = self.keys.get(command.api_key_id)
                is_its = known is None or known.organization_id == command.organization_id
                return is_its and command.api_key_id not in self.revoked
            case KeyRevoke():
                return self.has_key(command.organization_id, command.api_key_id)
            case BoostPut():
                return to_epoch_ms(command.until) > self.now_ms
            case ExemptionPut():
                is_known = command.api_key_id is None or self.has_key(command.organization_id, command.api_key_id)
                return is_known and to_epoch_ms(command.until) > self.now_ms
            case BoostEnd():
                boost = self.boosts.get((command.organization_id, command.boost_id))
                return boost is not None and to_epoch_ms(boost.until) > self.now_ms
            case ExemptionEnd():
                exemption = self.exemptions.get((command.organization_id, command.exemption_id))
                return exemption is not None and to_epoch_ms(exemption.until) > self.now_ms
        raise AssertionError(command)

    def has_key(self, organization_id: str, api_key_id: str) -> bool:
        """Whether the key is the organization's."""
        return api_key_id in self.keys and self.keys[api_key_id].organization_id == organization_id

    def plan(self, organization_id: str) -> Plan:
        """The plan in force."""
        version = [one for one in CATALOGUES if to_epoch_ms(one.effective_at) <= self.now_ms][-1]
        return version.plans[self.organizations[organization_id].tier]

    def boosting(self, organization_id: str) -> list[BoostPut]:
        """The boosts in force."""
        return [one for one in self.boosts.values() if one.organization_id == organization_id and self.runs(one)]

    def runs(self, one: BoostPut | ExemptionPut) -> bool:
        """Whether it has begun and not ended."""
        return to_epoch_ms(one.effective_at) <= self.now_ms < to_epoch_ms(one.until)

    def rates(self, organization_id: str) -> Rates | None:
        """The rates in force."""
        base = self.organizations[organization_id].rates or self.plan(organization_id).rates
        if base is None:
            return None
        all_rates = [base, *(one.rates for one in self.boosting(organization_id) if one.rates is not None)]
        return (
            max(one.requests_per_second for one in all_rates),
            max(one.burst for one in all_rates),
            max(one.requests_per_minute for one in all_rates),
        )

    def concurrency(self, organization_id: str) -> int | None:
        """The concurrency in force."""
        own = self.organizations[organization_id].concurrency
        base = self.plan(organization_id).concurrency if own is None else own
        if base is None:
            return None
        return max([base, *(one.concurrency or 0 for one in self.boosting(organization_id))])

    def quota(self, organization_id: str, resource: ResourceName) -> int | None:
        """The quota in force."""
        own = self.organizations[organization_id].quotas or {}
        quotas = self.plan(organization_id).quotas
        values = [own[resource] if resource in own else quotas.get(resource)]
        values += [one.quotas[resource] for one in self.boosting(organization_id) if resource in (one.quotas or {})]  # type: ignore[index]  # it is no None here
        return None if None in values else max(value for value in values if value is not None)

    def exempt(self, organization_id: str, api_key_id: str | None) -> tuple[str, ...]:
        """The limits that are off for just this key, or the whole organization."""
        running = [one for one in self.exemptions.values() if one.organization_id == organization_id and self.runs(one)]
        return tuple(sorted({one.limit_name for one in running if one.api_key_id == api_key_id}))
