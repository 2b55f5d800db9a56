"""What differs between two catalogues, value by value. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from sluicegate_schemas.bounds import Record
from sluicegate_schemas.catalogue import Catalogue


class Difference(Record):
    """A value at ``path`` (``plans.pro.rates.burst``); null where the catalogue has none there."""

    path: str
    before: str | int | bool | None
    after: str | int | bool | None


def differences(before: Catalogue, after: Catalogue) -> list[Difference]:
    """Everything that ``after`` has otherwise than ``before``, by path."""
    old, new = (dict(_leaves((), one.model_dump(mode="json"))) for one in (before, after))
    return [
        Difference(path=path, before=old.get(path), after=new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path) or (path in old) != (path in new)
    ]


def _leaves(path: tuple[str, ...], value: object) -> Iterator[tuple[str, str | int | bool | None]]:
    if isinstance(value, Mapping) and value:
        for name, child in value.items():
            yield from _leaves((*path, str(name)), child)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for number, child in enumerate(value):
            yield from _leaves((*path, _name(number, child)), child)
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        yield ".".join(path), "none"
    else:
        assert value is None or isinstance(value, str | int | bool)
        yield ".".join(path), value


def _name(number: int, child: object) -> str:
    """A row of a table by its own name where it has one, so that a row put in between shifts nothing."""
    if isinstance(child, Mapping):
        words = [child[name] for name in ("name", "kind", "operation", "quantity") if child.get(name) is not None]
        if words:
            return f"[{' '.join(map(str, words))}]"
    return f"[{number}]"
