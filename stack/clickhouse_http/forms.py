"""Form-encoded requests: clients put long queries and bound parameters into multipart/form-data fields."""

from __future__ import annotations

from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

from stack.clickhouse_http.failures import EngineError, bad_request

FIELDS_MAX = 1_000


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a form, values as they were sent (bytes that are no UTF-8 as surrogates).

    :raises EngineError: it cannot be read, has a field twice, has too many, or holds a file (ClickHouse's external
        data, which is not supported here).
    """
    try:
        return _fields(content_type, body)
    except EngineError:
        raise
    except Exception as error:  # the standard library's parser trips over odd headers in ways of its own
        raise bad_request(f"The form cannot be read: {type(error).__name__}") from error


def _fields(content_type: str, body: bytes) -> dict[str, str]:
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode("latin-1", "replace")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    parts = message.get_payload()
    if not isinstance(parts, list) or not parts:
        raise bad_request("The form cannot be read: it has no parts")
    if len(parts) > FIELDS_MAX:
        raise bad_request(f"The form has more than {FIELDS_MAX} fields")
    fields: dict[str, str] = {}
    for part in parts:
        name, value = _read_part(part)
        if name in fields:
            raise bad_request(f"The form has {name[:64]!r} twice")
        fields[name] = value
    return fields


def _read_part(part: object) -> tuple[str, str]:
    assert isinstance(part, Message)
    name = part.get_param("name", header="content-disposition")
    if part.get_filename() is not None:
        raise EngineError(48, "NOT_IMPLEMENTED", "External data is not supported here")
    value = part.get_payload(decode=True)
    if not isinstance(name, str) or not isinstance(value, bytes):
        raise bad_request("The form cannot be read: a part is no plain named field")
    return name, value.decode("utf-8", "surrogateescape")
