"""The bodies of operators' requests, made from the records of the accounts topic: a field that a command gets is a
field of its body by the same rules, without a word of it here."""

import json
from collections.abc import Collection
from typing import Annotated, Any, Final, Self, cast

from pydantic import create_model

from sluicegate_schemas.accounts import Command
from sluicegate_schemas.bounds import Record, Time

OF_THE_REQUEST: Final = frozenset({"kind", "command_id", "issued_at", "issued_by", "account_id", "organization_id"})
"""Fields of commands that no body gives: they come from the path, the Idempotency-Key, the credential and the clock."""
BEGINS_NOW: Final = "effective_at"
"""A field that is now where it is not given."""


class JsonBody(Record):
    """A body that is read by the rules of JSON, so that times are text and tuples are arrays, though the framework has
    parsed it before: a parameter is ``Annotated[Some, BeforeValidator(Some.read), Body()]``."""

    @classmethod
    def read(cls, value: Any) -> Self:
        """The body of parsed JSON. Raises ValueError: what is no object, as a body of another type, is none."""
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        try:
            return cls.model_validate_json(json.dumps(value))
        except RecursionError:
            raise ValueError("must not be that deep") from None

    def given(self) -> dict[str, Any]:
        """What the caller gave, as JSON knows it."""
        return self.model_dump(mode="json", exclude_unset=True)


def body_of(command: type[Command], *, without: Collection[str] = (), optional: bool = False) -> type[JsonBody]:
    """The body that gives the fields of ``command``, but for ``without`` and those of the request. ``optional``: none
    is needed, and each may be null."""
    fields: dict[str, Any] = {}
    for name, field in command.model_fields.items():
        if name in OF_THE_REQUEST or name in without:
            continue
        if optional or name == BEGINS_NOW:
            bounded = Time if name == BEGINS_NOW else _annotated(field.annotation, field.metadata)
            fields[name] = (bounded | None, None)
        else:
            fields[name] = (field.annotation, field)
    name = f"{command.__name__}{'Changes' if optional else 'Body'}"
    made = create_model(name, __base__=JsonBody, __doc__=command.__doc__, **fields)
    return cast(type[JsonBody], made)


def _annotated(annotation: Any, metadata: Collection[Any]) -> Any:
    return Annotated[annotation, *metadata] if metadata else annotation
