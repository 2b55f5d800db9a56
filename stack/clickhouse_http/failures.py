"""ClickHouse's errors as HTTP answers: code, name, status."""

from __future__ import annotations

import re

STATUS_DEFAULT = 500

# The statuses that a ClickHouse server gives, by the error's name.
STATUS_BY_NAME = {
    "REQUIRED_PASSWORD": 401,
    "UNKNOWN_USER": 403,
    "WRONG_PASSWORD": 403,
    "AUTHENTICATION_FAILED": 403,
    "BAD_ARGUMENTS": 400,
    "CANNOT_PARSE_TEXT": 400,
    "CANNOT_PARSE_ESCAPE_SEQUENCE": 400,
    "CANNOT_PARSE_QUOTED_STRING": 400,
    "CANNOT_PARSE_DATE": 400,
    "CANNOT_PARSE_DATETIME": 400,
    "CANNOT_PARSE_NUMBER": 400,
    "CANNOT_PARSE_INPUT_ASSERTION_FAILED": 400,
    "UNKNOWN_QUERY_PARAMETER": 400,
    "BAD_QUERY_PARAMETER": 400,
    "INCORRECT_DATA": 400,
    "TYPE_MISMATCH": 400,
    "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE": 400,
    "SYNTAX_ERROR": 400,
    "UNKNOWN_TABLE": 404,
    "UNKNOWN_FUNCTION": 404,
    "UNKNOWN_IDENTIFIER": 404,
    "UNKNOWN_TYPE": 404,
    "UNKNOWN_STORAGE": 404,
    "UNKNOWN_DATABASE": 404,
    "UNKNOWN_SETTING": 404,
    "UNKNOWN_AGGREGATE_FUNCTION": 404,
    "UNKNOWN_FORMAT": 404,
    "UNKNOWN_TYPE_OF_QUERY": 404,
    "SESSION_NOT_FOUND": 404,
    "NO_SUCH_COLUMN_IN_TABLE": 404,
    "TIMEOUT_EXCEEDED": 408,
    "QUERY_IS_TOO_LARGE": 413,
    "NOT_IMPLEMENTED": 501,
    "TOO_MANY_SIMULTANEOUS_QUERIES": 503,
}


class EngineError(Exception):
    """A ClickHouse error: its number, its symbolic name, and the server's text."""

    def __init__(self, code: int, name: str, text: str) -> None:
        self.code = code
        self.name = name
        self.text = text
        super().__init__(code, name, text)

    @property
    def status(self) -> int:
        return STATUS_BY_NAME.get(self.name, STATUS_DEFAULT)

    @property
    def body(self) -> str:
        """The text in the form in which a server sends it."""
        if self.text.startswith("Code: "):
            return self.text
        return f"Code: {self.code}. DB::Exception: {self.text}. ({self.name})"


def too_large(what: str, limit_bytes: int) -> EngineError:
    return EngineError(307, "TOO_MANY_BYTES", f"{what} is larger than {limit_bytes} bytes")


def bad_request(text: str) -> EngineError:
    return EngineError(36, "BAD_ARGUMENTS", text)


def from_engine(error: BaseException) -> EngineError:
    """What chDB raised, read back into code and name."""
    text = str(error)
    start = text.find("Code: ")
    code = re.match(r"Code: (\d+)", text[start:]) if start >= 0 else None
    names = re.findall(r"\(([A-Z][A-Z0-9_]+)\)", text)
    if code is None:
        return EngineError(1001, "STD_EXCEPTION", text or type(error).__name__)
    return EngineError(int(code[1]), names[-1] if names else "STD_EXCEPTION", text[start:])
