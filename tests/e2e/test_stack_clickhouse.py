"""The embedded ClickHouse engine, asked by clickhouse-connect's ordinary HTTP client."""

from __future__ import annotations

import datetime as dt
import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from clickhouse_connect.driver.external import ExternalData

from stack.clickhouse import ClickHouse

pytestmark = pytest.mark.engine


@pytest.fixture
def client(clickhouse: ClickHouse, fresh_prefix: str) -> Iterator[Client]:
    """A client whose database is this test's own."""
    with clickhouse.client() as admin:
        admin.command(f"CREATE DATABASE {fresh_prefix}")
        with clickhouse.client(fresh_prefix) as own:
            yield own
        admin.command(f"DROP DATABASE {fresh_prefix}")


def test_values_of_every_kind_come_back_as_they_are(client: Client) -> None:
    result = client.query(
        "SELECT 1::Int64 AS a, -9223372036854775808::Int64 AS b, 'ä\\'\\\\\\n' AS c, NULL::Nullable(String) AS d,"
        " [1, 2]::Array(UInt8) AS e, map('k', 1) AS f, toDecimal64('0.000001', 6) AS g,"
        " toDateTime64('2026-01-02 03:04:05.678', 3, 'UTC') AS h, toDate('2026-01-02') AS i, true AS j,"
        " 0.5::Float64 AS k"
    )
    assert result.column_names == tuple("abcdefghijk")
    row = dict(zip(result.column_names, result.result_rows[0], strict=True))
    when = row.pop("h")
    assert row == {
        "a": 1,
        "b": -(2**63),
        "c": "ä'\\\n",
        "d": None,
        "e": [1, 2],
        "f": {"k": 1},
        "g": Decimal("0.000001"),
        "i": dt.date(2026, 1, 2),
        "j": True,
        "k": 0.5,
    }
    assert when.replace(tzinfo=dt.UTC) == dt.datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=dt.UTC)


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_a_hundred_thousand_rows_arrive_in_columns(
    clickhouse: ClickHouse, client: Client, fresh_prefix: str, compress: bool | str
) -> None:
    client.command("CREATE TABLE rows (n Int64, word String, at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY n")
    count = 100_000
    with clickhouse.client(fresh_prefix, compress=compress) as writer:
        summary = writer.insert(
            "rows",
            [list(range(count)), ["word"] * count, [1_700_000_000_123] * count],
            column_names=["n", "word", "at"],
            column_oriented=True,
        )
        assert summary.written_rows == count
        found = writer.query("SELECT count(), sum(n), uniq(word), toUnixTimestamp64Milli(any(at)) FROM rows")
    assert found.result_rows == [(count, count * (count - 1) // 2, 1, 1_700_000_000_123)]


def test_parameters_are_bound_and_never_spliced(clickhouse: ClickHouse, client: Client, fresh_prefix: str) -> None:
    hostile = "x'; DROP TABLE t; -- \\ \n ä"
    question = "SELECT {n:Int64} + 1, {s:String}, {a:Array(String)}"
    parameters = {"n": 41, "s": hostile, "a": ["p", "q'"]}
    expected = [(42, hostile, ["p", "q'"])]
    assert client.query(question, parameters=parameters).result_rows == expected
    with clickhouse.client(fresh_prefix, form_encode_query_params=True) as by_form:
        assert by_form.query(question, parameters=parameters).result_rows == expected
        long = "y" * 300_000
        assert by_form.query("SELECT {s:String}", parameters={"s": long}).result_rows == [(long,)]


@pytest.mark.parametrize(
    ("statement", "code", "name"),
    [
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELECT nothing", 47, "UNKNOWN_IDENTIFIER"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT * FROM nowhere.t", 81, "UNKNOWN_DATABASE"),
        ("SELECT {missing:Int8}", 456, "UNKNOWN_QUERY_PARAMETER"),
    ],
)
def test_an_error_is_the_servers_own(client: Client, statement: str, code: int, name: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query(statement)
    assert (caught.value.code, caught.value.name) == (code, name)


def test_an_insert_that_fails_leaves_no_row(client: Client) -> None:
    client.command("CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(DatabaseError):
        client.raw_insert("t", ["n"], "1\n2\nnot a number\n", fmt="TSV")
    assert client.query("SELECT count() FROM t").result_rows == [(0,)]
    client.raw_insert("t", ["n"], "1\n2\n", fmt="TSV")
    assert client.query("SELECT sum(n) FROM t").result_rows == [(3,)]


def test_settings_hold_for_their_request_alone(client: Client) -> None:
    question = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
    usual = client.query(question).result_rows
    assert client.query(question, settings={"max_block_size": 1234}).result_rows == [("1234",)]
    assert client.query(question).result_rows == usual


def test_inserts_are_never_asynchronous(client: Client) -> None:
    question = "SELECT value FROM system.settings WHERE name = 'async_insert'"
    assert client.query(question).result_rows == [("0",)]
    assert client.query(question, settings={"async_insert": 1}).result_rows == [("0",)]


def test_a_session_keeps_its_temporary_table_and_others_do_not_see_it(
    clickhouse: ClickHouse, client: Client, fresh_prefix: str
) -> None:
    with clickhouse.client(fresh_prefix, session_id=fresh_prefix) as session:
        session.command("CREATE TEMPORARY TABLE mine (n Int8)")
        session.command("INSERT INTO mine VALUES (7)")
        assert session.query("SELECT n FROM mine").result_rows == [(7,)]
        with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
            client.query("SELECT n FROM mine")


def test_many_ask_at_once(clickhouse: ClickHouse, client: Client, fresh_prefix: str) -> None:
    client.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")

    def work(number: int) -> int:
        with clickhouse.client(fresh_prefix, autogenerate_session_id=False) as own:
            own.insert("t", [[number * 10 + i] for i in range(10)], column_names=["n"])
            return int(own.query("SELECT {n:Int64}", parameters={"n": number}).result_rows[0][0])

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(work, range(40))) == list(range(40))
    assert client.query("SELECT count(), sum(n) FROM t").result_rows == [(400, sum(range(400)))]


@pytest.mark.parametrize(("user", "password"), [("default", ""), ("sluicegate", "wrong"), ("sluicegate", "")])
def test_nobody_gets_in_without_the_password(clickhouse: ClickHouse, user: str, password: str) -> None:
    connection = http.client.HTTPConnection(clickhouse.host, clickhouse.port, timeout=10)
    headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}
    try:
        connection.request("POST", "/", body="SELECT 1", headers=headers)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (403, "516")
        assert clickhouse.password not in answer.read().decode()
    finally:
        connection.close()


def test_the_password_is_for_its_owner_alone(clickhouse: ClickHouse) -> None:
    assert clickhouse.password_file.stat().st_mode & 0o777 == 0o600
    assert len(clickhouse.password) >= 32


def test_external_data_is_refused_clearly(client: Client) -> None:
    data = ExternalData(file_name="rows.tsv", data=b"1\n", fmt="TSV", structure="n Int8")
    with pytest.raises(DatabaseError, match="External data"):
        client.query("SELECT * FROM rows", external_data=data)


def test_rows_password_and_port_are_kept_over_a_stop(engine: ClickHouse) -> None:
    with engine.client() as client:
        client.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
        client.insert("t", [[1], [2]], column_names=["n"])
    url, password = engine.url, engine.password
    engine.stop()
    engine.start()
    assert (engine.url, engine.password) == (url, password)
    with engine.client() as client:
        assert client.query("SELECT sum(n) FROM t").result_rows == [(3,)]


@pytest.mark.processes
def test_kill_9_loses_no_acknowledged_row(engine: ClickHouse) -> None:
    with engine.client() as client:
        client.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
    acknowledged: list[int] = []
    enough = threading.Event()

    def write() -> None:
        with engine.client(autogenerate_session_id=False) as writer:
            for number in range(100_000):
                try:
                    writer.insert("t", [[number]], column_names=["n"])
                except (ClickHouseError, OSError):
                    return
                acknowledged.append(number)
                if len(acknowledged) == 30:
                    enough.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(30)
    engine.kill()
    writer.join(30)
    engine.start()
    with engine.client() as client:
        found = {row[0] for row in client.query("SELECT n FROM t").result_rows}
    assert set(acknowledged) <= found
    assert len(found) <= len(acknowledged) + 1


def test_a_second_engine_on_the_same_folder_is_refused(engine: ClickHouse, tmp_path: Path) -> None:
    second = ClickHouse(engine.data)
    second.log = tmp_path / "second.log"
    try:
        with pytest.raises(Exception, match="in use by another process"):
            second.start()
    finally:
        second.kill()
