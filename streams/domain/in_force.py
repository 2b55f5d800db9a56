"""Boosts and exemptions that are in force: what ``overrides`` keeps current and ``plans`` reads."""

from collections.abc import Iterable
from typing import Final

from .tables import OverrideRow

BOOST: Final = "boost"
EXEMPTION: Final = "exempt"


class InForce:
    """By organization and id; only those that have begun and not ended."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, dict[str, OverrideRow]]] = {BOOST: {}, EXEMPTION: {}}
        self._boosts = self._rows[BOOST]
        self._exemptions = self._rows[EXEMPTION]

    def begin(self, kind: str, organization_id: str, identifier: str, row: OverrideRow) -> None:
        """It counts from now on."""
        self._rows[kind].setdefault(organization_id, {})[identifier] = row

    def end(self, kind: str, organization_id: str, identifier: str) -> None:
        """It counts no more."""
        of_organization = self._rows[kind].get(organization_id)
        if of_organization is not None and of_organization.pop(identifier, None) is not None and not of_organization:
            del self._rows[kind][organization_id]

    def boosts_of(self, organization_id: str) -> Iterable[OverrideRow]:
        """The organization's boosts."""
        boosts = self._boosts.get(organization_id)
        return () if boosts is None else boosts.values()

    def boosted(self) -> list[str]:
        """The organizations that have boosts."""
        return list(self._boosts)

    def exempt(self, organization_id: str, api_key_id: str | None) -> list[str]:
        """The limits that are off for the whole organization (``api_key_id`` None), or for this key alone; sorted."""
        exemptions = self._exemptions.get(organization_id)
        if exemptions is None:
            return []
        return sorted(
            {row.limit_name for row in exemptions.values() if row.api_key_id == api_key_id and row.limit_name}
        )

    def is_exempt(self, organization_id: str, api_key_id: str | None, limit_name: str) -> bool:
        """Whether the limit is off for the organization, or for this key of it."""
        exemptions = self._exemptions.get(organization_id)
        return exemptions is not None and any(
            row.limit_name == limit_name and (row.api_key_id is None or row.api_key_id == api_key_id)
            for row in exemptions.values()
        )
