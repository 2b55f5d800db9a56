"""The operators' credentials: a TOML file of names, SHA-256s and scopes, off until there is one.

::

    [[operators]]
    name = "maria"                  # who acts, in the trail
    sha256 = "…"                    # of the credential: sluicegate never sees another copy
    scopes = ["read", "write"]
"""

import hashlib
import hmac
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sluicegate_schemas.bounds import Name, Record, Sha256
from sluicegate_schemas.files import FileError

OperatorScope = Literal["read", "write"]


class Operator(Record):
    """One operator's credential; ``name`` is who acts in the trail. ``write`` includes ``read``."""

    name: Name
    sha256: Sha256
    scopes: Annotated[tuple[OperatorScope, ...], Field(min_length=1)] = ("read",)

    def may(self, scope: OperatorScope) -> bool:
        """Whether this operator may do what needs ``scope``."""
        return scope in self.scopes or (scope == "read" and "write" in self.scopes)


class _File(Record):
    operators: Annotated[tuple[Operator, ...], Field(min_length=1, max_length=1_000)]


def load_operators(path: Path) -> tuple[Operator, ...]:
    """The operators in a file. Raises FileError, OSError."""
    try:
        found = _File.model_validate(tomllib.loads(path.read_text("utf-8")), strict=False).operators
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise FileError(first["msg"], field=".".join(map(str, first["loc"]))) from None
    if len({one.name for one in found}) < len(found):
        raise FileError("each operator has a name of its own", field="operators")
    return found


def operator_with(operators: Sequence[Operator], secret: str | None) -> Operator | None:
    """Whose credential ``secret`` is; all are compared, each in constant time."""
    presented = hashlib.sha256((secret or "").encode()).hexdigest()
    found = [one for one in operators if hmac.compare_digest(one.sha256, presented)]
    return found[0] if found and secret else None
