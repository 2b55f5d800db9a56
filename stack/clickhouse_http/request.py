"""One HTTP request of a ClickHouse client, read into one statement."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from stack.clickhouse_http.failures import EngineError, bad_request

# What a client may say about the transport; everything else in the address is a setting or a bound parameter.
TRANSPORT = frozenset(
    {
        "database",
        "default_format",
        "query",
        "query_id",
        "session_id",
        "session_timeout",
        "session_check",
        "client_protocol_version",
        "wait_end_of_query",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "enable_http_compression",
        "cancel_http_readonly_queries_on_client_close",
        "http_write_exception_in_output_format",
        "compress",
        "decompress",
        "buffer_size",
        "quota_key",
        "role",
        "user",
        "password",
    }
)
PINNED_SETTINGS = frozenset({"async_insert"})  # an acknowledged insert must be on disk
SESSION_TIMEOUT_DEFAULT_S, SESSION_TIMEOUT_MAX_S = 60, 3600
NAME_BYTES_MAX = 256

_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_FORMAT = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
# Quantifiers are possessive: nothing is read twice, so no text takes longer than its length.
_QUOTES = rb"""`(?:[^`\\]|\\.|``)*+`|"(?:[^"\\]|\\.|"")*+"|'(?:[^'\\]|\\.|'')*+'"""
_TAIL = rb"FORMAT\s++([A-Za-z][A-Za-z0-9]{0,63})[ \t\r;]*+(?:\n|\Z)"
# Up to the first FORMAT outside of quotes: words, quoted things, then FORMAT, a name, and the end of its line.
_INSERT = re.compile(
    rb"\s*+(INSERT\s++INTO\b(?:" + _QUOTES + rb"|[^`\"'\s]|\s++(?!" + _TAIL + rb"))*+)\s++" + _TAIL,
    re.IGNORECASE | re.DOTALL,
)
_QUOTED = re.compile(_QUOTES, re.DOTALL)
_OWN_ROWS = re.compile(rb"\b(?:SELECT|VALUES|FROM)\b", re.IGNORECASE)
_OUTPUT_FORMAT = re.compile(rb"\bFORMAT\s+([A-Za-z][A-Za-z0-9]{0,63})\s*;?\s*\Z", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT whose rows came with it: the statement up to FORMAT, the format, the rows."""

    statement: str
    format: str
    rows: bytes


@dataclass(frozen=True, slots=True)
class Statement:
    """What is to be run, and how."""

    text: bytes
    insert: Insert | None
    output_format: str
    format_is_named: bool
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    query_id: str
    session_id: str
    session_timeout_s: int
    session_must_exist: bool


def read_statement(fields: Mapping[str, str], body: bytes, *, headers: Mapping[str, str]) -> Statement:
    """The statement of a request: ``fields`` are the address's and the form's, ``body`` is unpacked.

    :raises EngineError: no statement, a setting or format that is no name, an identifier that is too long.
    """
    query = fields.get("query", "").encode("utf-8", "surrogateescape")
    text = query + b"\n" + body if query and body else query or body
    if not text.strip():
        raise EngineError(62, "SYNTAX_ERROR", "Syntax error: the query is empty")
    insert = _read_insert(text)
    default_format = headers.get("x-clickhouse-format") or fields.get("default_format") or "TabSeparated"
    if not _FORMAT.fullmatch(default_format):
        raise bad_request(f"default_format {default_format[:64]!r} is not the name of a format")
    named = None if insert else _OUTPUT_FORMAT.search(text[-512:])
    return Statement(
        text=text,
        insert=insert,
        output_format=named[1].decode() if named else default_format,
        format_is_named=named is not None,
        database=_identifier(fields, "database") or headers.get("x-clickhouse-database", "")[:NAME_BYTES_MAX],
        settings=_settings(fields),
        parameters={name.removeprefix("param_"): value for name, value in fields.items() if name.startswith("param_")},
        query_id=_identifier(fields, "query_id"),
        session_id=_identifier(fields, "session_id"),
        session_timeout_s=_session_timeout_s(fields),
        session_must_exist=fields.get("session_check") == "1",
    )


def _read_insert(text: bytes) -> Insert | None:
    match = _INSERT.match(text)
    if match is None or _OWN_ROWS.search(_QUOTED.sub(b"", match[1])):
        return None
    return Insert(match[1].decode("utf-8", "surrogateescape"), match[3].decode(), text[match.end() :])


def _settings(fields: Mapping[str, str]) -> dict[str, str]:
    settings = {}
    for name, value in fields.items():
        if name in TRANSPORT or name in PINNED_SETTINGS or name.startswith("param_"):
            continue
        if not _SETTING.fullmatch(name):
            raise bad_request(f"{name[:64]!r} is not the name of a setting")
        settings[name] = value
    return settings


def _identifier(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name, "")
    if len(value.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX or _CONTROL.search(value):
        raise bad_request(f"{name} is longer than {NAME_BYTES_MAX} bytes or holds control characters")
    return value


def _session_timeout_s(fields: Mapping[str, str]) -> int:
    value = fields.get("session_timeout", str(SESSION_TIMEOUT_DEFAULT_S))
    if not (value.isascii() and value.isdigit() and 0 < int(value[:9]) <= SESSION_TIMEOUT_MAX_S):
        raise EngineError(
            374, "INVALID_SESSION_TIMEOUT", f"session_timeout must be 1 to {SESSION_TIMEOUT_MAX_S} seconds"
        )
    return int(value)


def read_credentials(fields: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, str]:
    """User and password of a request, from Basic authentication, ClickHouse's headers, or the address.

    :raises EngineError: the Authorization header cannot be read.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError as error:  # not ASCII, not base64, not UTF-8
            raise EngineError(516, "AUTHENTICATION_FAILED", "The Authorization header cannot be read") from error
        return user, password
    return (
        headers.get("x-clickhouse-user") or fields.get("user") or "default",
        headers.get("x-clickhouse-key") or fields.get("password") or "",
    )
