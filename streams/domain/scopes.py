"""What a verdict is about, as plain names: ``outputs.Scope`` without its checks."""

from typing import NamedTuple


class ScopeNames(NamedTuple):
    """The fields of ``outputs.Scope``."""

    kind: str
    id: str
    operation: str | None = None
    subject: str | None = None
    label: str | None = None
    category: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether ``kind`` and ``id`` say all."""
        return self[2:] == (None, None, None, None)

    def text(self) -> str:
        """The same as ``outputs.Scope.text``."""
        return ":".join(word for word in self if word is not None)


def parse_scope(text: str) -> ScopeNames:
    """The plain scope, or the label's, that ``text`` is of; other kinds are not told by their text alone."""
    kind, _, identifier = text.partition(":")
    if kind == "label":
        organization_id, _, label = identifier.partition(":")
        return ScopeNames(kind, organization_id, label=label)
    return ScopeNames(kind, identifier)
