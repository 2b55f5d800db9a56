"""The engine: chDB connections, one for each running statement, and the sessions that keep theirs.

chDB is ClickHouse inside this process; a folder belongs to one process (the engine locks it). Statements block, so
they run in a pool of threads; what waits is bounded by the caller.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chdb.state.sqlitelike import Connection

from stack.clickhouse_http.failures import EngineError, from_engine
from stack.clickhouse_http.request import Insert, Statement

SESSIONS_MAX = 256

# For every statement; a client's own settings come after them. A memory limit, because this process shares a machine
# with everything else; the result limit, because an answer is built whole before it is sent.
BASE_SETTINGS = {
    "async_insert": "0",
    "max_memory_usage": str(4_000_000_000),
    "max_result_bytes": str(512_000_000),
    "result_overflow_mode": "throw",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A result in its output format, and what ClickHouse tells about the work (``X-ClickHouse-Summary``)."""

    data: bytes
    summary: str


@dataclass(slots=True)
class _Session:
    connection: Connection
    timeout_s: int
    used_at_s: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Engine:
    """ClickHouse over one folder. ``run`` may be called from many threads at once.

    :raises EngineError: the folder cannot be opened (another process owns it, or it is damaged).
    """

    def __init__(self, folder: Path) -> None:
        self._path = str(folder)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()
        try:
            self._root = Connection(self._path)  # keeps the engine open between statements
            self._root.query("SELECT 1", "Null")
        except Exception as error:
            raise from_engine(error) from error

    def close(self) -> None:
        """Close every session and the engine."""
        with self._lock:
            for session in self._sessions.values():
                session.connection.close()
            self._sessions.clear()
        self._root.close()

    def run(self, statement: Statement) -> Answer:
        """Run one statement and return its whole result.

        :raises EngineError: whatever ClickHouse refuses, under its own code and name.
        """
        try:
            if statement.session_id:
                with self._session(statement) as connection, _borrowed_settings(connection, statement.settings):
                    return _execute(connection, statement)
            with contextlib.closing(self._connect()) as connection:
                _apply(connection, statement.settings)
                return _execute(connection, statement)
        except EngineError:
            raise
        except Exception as error:
            raise from_engine(error) from error

    def _connect(self) -> Connection:
        connection = Connection(self._path)
        _apply(connection, BASE_SETTINGS)
        return connection

    @contextlib.contextmanager
    def _session(self, statement: Statement) -> Iterator[Connection]:
        session = self._find_session(statement)
        try:
            yield session.connection
        finally:
            session.used_at_s = time.monotonic()
            session.lock.release()

    def _find_session(self, statement: Statement) -> _Session:
        """The session, made if need be, with its lock held."""
        with self._lock:
            self._expire()
            session = self._sessions.get(statement.session_id)
            if session is None:
                if statement.session_must_exist:
                    raise EngineError(372, "SESSION_NOT_FOUND", "Session not found")
                self._make_room()
                session = _Session(self._connect(), statement.session_timeout_s, time.monotonic())
                self._sessions[statement.session_id] = session
            if not session.lock.acquire(blocking=False):
                raise EngineError(373, "SESSION_IS_LOCKED", "Session is locked by a concurrent client")
            session.timeout_s = statement.session_timeout_s
            self._sessions.move_to_end(statement.session_id)
            return session

    def _expire(self) -> None:
        now_s = time.monotonic()
        for name in [name for name, s in self._sessions.items() if now_s - s.used_at_s > s.timeout_s]:
            self._close_if_idle(name)

    def _make_room(self) -> None:
        """With ``SESSIONS_MAX`` sessions open, the one that was idle longest ends early."""
        if len(self._sessions) < SESSIONS_MAX:
            return
        if not any(self._close_if_idle(name) for name in list(self._sessions)):
            raise EngineError(202, "TOO_MANY_SIMULTANEOUS_QUERIES", f"All {SESSIONS_MAX} sessions are busy")

    def _close_if_idle(self, name: str) -> bool:
        session = self._sessions[name]
        if not session.lock.acquire(blocking=False):
            return False
        del self._sessions[name]
        session.connection.close()
        return True


def _execute(connection: Connection, statement: Statement) -> Answer:
    if statement.database:
        connection.query(f"USE {_quoted(statement.database, '`')}", "Null")
    started_ns = time.perf_counter_ns()
    if statement.insert is not None:
        return _insert(connection, statement.insert, started_ns)
    result = connection.query(
        statement.text.decode("utf-8", "surrogateescape"), statement.output_format, params=dict(statement.parameters)
    )
    return Answer(
        result.bytes() or b"",
        _summary(
            started_ns,
            read_rows=result.rows_read(),
            read_bytes=result.bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
        ),
    )


def _insert(connection: Connection, insert: Insert, started_ns: int) -> Answer:
    with connection.send_insert(insert.statement, insert.format) as stream:
        if insert.rows:
            stream.append(insert.rows)
        written = stream.finish()
    return Answer(b"", _summary(started_ns, written_rows=written.rows_written, written_bytes=written.bytes_written))


def _summary(started_ns: int, **counts: int) -> str:
    counts["elapsed_ns"] = time.perf_counter_ns() - started_ns
    return json.dumps({name: str(value) for name, value in counts.items()})


def _apply(connection: Connection, settings: Mapping[str, str]) -> None:
    if settings:
        connection.query("SET " + ", ".join(f"{name} = {_quoted(value)}" for name, value in settings.items()), "Null")


@contextlib.contextmanager
def _borrowed_settings(connection: Connection, settings: Mapping[str, str]) -> Iterator[None]:
    """A request's settings hold for that request alone, also inside a session."""
    if not settings:
        yield
        return
    names = ", ".join(_quoted(name) for name in settings)
    rows = connection.query(f"SELECT name, value, changed FROM system.settings WHERE name IN ({names})", "JSONCompact")  # noqa: S608 - quoted
    before = json.loads(rows.bytes())["data"]
    _apply(connection, settings)
    try:
        yield
    finally:
        _apply(connection, {name: value for name, value, changed in before if changed})
        if unchanged := [name for name, _, changed in before if not changed]:
            connection.query("SET " + ", ".join(f"{name} = DEFAULT" for name in unchanged), "Null")


def _quoted(text: str, quote: str = "'") -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
