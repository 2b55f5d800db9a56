"""The pure parts of the engine's HTTP face: bodies, statements, failures."""

from __future__ import annotations

import contextlib
import gzip
import sys
import zlib

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from stack.clickhouse_http.bodies import unpack
from stack.clickhouse_http.failures import EngineError, from_engine
from stack.clickhouse_http.forms import read_form
from stack.clickhouse_http.request import read_credentials, read_statement

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK = {"lz4": lz4.frame.compress, "zstd": zstd.compress, "gzip": gzip.compress, "deflate": zlib.compress}
encodings = st.sampled_from(sorted(PACK))


@given(encoding=encodings, frames=st.lists(st.binary(max_size=2_000), min_size=1, max_size=4))
def test_a_body_of_many_frames_is_unpacked_whole(encoding: str, frames: list[bytes]) -> None:
    packed = b"".join(PACK[encoding](frame) for frame in frames)
    assert unpack(packed, encoding, 10_000) == b"".join(frames)


@given(encoding=encodings, size=st.integers(1, 100_000), limit=st.integers(1, 100_000))
def test_a_body_is_refused_exactly_when_it_passes_the_limit(encoding: str, size: int, limit: int) -> None:
    packed = PACK[encoding](b"a" * size)
    if size <= limit:
        assert len(unpack(packed, encoding, limit)) == size
    else:
        with pytest.raises(EngineError, match="TOO_MANY_BYTES"):
            unpack(packed, encoding, limit)


@given(encoding=encodings, content=st.binary(min_size=1, max_size=500), cut=st.integers(1, 10_000))
def test_a_truncated_body_is_refused(encoding: str, content: bytes, cut: int) -> None:
    packed = PACK[encoding](content)
    with pytest.raises(EngineError, match=r"truncated|damaged"):
        unpack(packed[: len(packed) - 1 - cut % (len(packed) - 1)], encoding, 10_000)


@given(encoding=encodings, noise=st.binary(max_size=100))
def test_noise_never_raises_anything_else(encoding: str, noise: bytes) -> None:
    with contextlib.suppress(EngineError):
        unpack(noise, encoding, 10_000)


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(EngineError, match="NOT_IMPLEMENTED"):
        unpack(b"", "snappy", 1)


@given(values=st.dictionaries(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text(max_size=200), min_size=1))
def test_a_form_gives_back_each_value_as_it_was_sent(values: dict[str, str]) -> None:
    body, content_type = encode_multipart_formdata(values)
    assert read_form(content_type, body) == values


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"noise"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nrows\r\n--x--\r\n',
        ),
    ],
)
def test_a_form_that_is_none_or_holds_a_file_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(EngineError):
        read_form(content_type, body)


@given(
    column=st.text(min_size=1, max_size=20).filter(lambda name: "\x00" not in name),
    rows=st.binary(max_size=200),
)
def test_rows_are_told_from_the_statement_whatever_the_columns_are_called(column: str, rows: bytes) -> None:
    quoted = "`" + column.replace("\\", "\\\\").replace("`", "\\`") + "`"
    statement = f"INSERT INTO `select from` (`a FORMAT x`, {quoted})"
    read = read_statement({}, f"{statement} FORMAT Native\n".encode() + rows, headers={})
    assert read.insert is not None
    assert (read.insert.statement, read.insert.format, read.insert.rows) == (statement, "Native", rows)


@pytest.mark.parametrize(
    "text", ["INSERT INTO t VALUES (1)", "INSERT INTO t SELECT 1 FORMAT Null", "SELECT 'INSERT INTO t FORMAT Native\n'"]
)
def test_what_brings_its_own_rows_is_not_taken_for_an_insert_with_data(text: str) -> None:
    assert read_statement({}, text.encode(), headers={}).insert is None


def test_the_address_may_hold_the_insert_and_the_body_the_rows() -> None:
    read = read_statement({"query": "INSERT INTO t (a) FORMAT TSV"}, b"1\n2\n", headers={})
    assert read.insert is not None
    assert read.insert.rows == b"1\n2\n"


def test_settings_parameters_and_transport_are_parted() -> None:
    fields = {"max_threads": "1", "param_a": "5", "wait_end_of_query": "1", "database": "d", "async_insert": "1"}
    read = read_statement(fields, b"SELECT {a:Int8}", headers={})
    assert read.settings == {"max_threads": "1"}  # async_insert is pinned: an acknowledged insert is on disk
    assert read.parameters == {"a": "5"}
    assert read.database == "d"


@pytest.mark.parametrize(
    "fields",
    [
        {"a=1, b": "1"},
        {"default_format": "x; DROP"},
        {"database": "x" * 257},
        {"session_id": "a\nb"},
        {"session_timeout": "0"},
        {"session_timeout": "999999999999"},
    ],
)
def test_a_hostile_field_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(EngineError):
        read_statement(fields, b"SELECT 1", headers={})


def test_no_statement_is_a_syntax_error() -> None:
    with pytest.raises(EngineError) as caught:
        read_statement({}, b" \n", headers={})
    assert (caught.value.code, caught.value.status) == (62, 400)


@given(noise=st.text(alphabet="!?#%&", min_size=1, max_size=50))
def test_credentials_that_cannot_be_read_are_a_failed_authentication(noise: str) -> None:
    with pytest.raises(EngineError) as caught:
        read_credentials({}, {"authorization": f"Basic {noise}"})
    assert caught.value.status == 403


def test_the_engines_errors_keep_code_and_name() -> None:
    error = from_engine(RuntimeError("insert failed: Code: 60. DB::Exception: Table (A) is missing. (UNKNOWN_TABLE)"))
    assert (error.code, error.name, error.status) == (60, "UNKNOWN_TABLE", 404)
    assert error.body.startswith("Code: 60.")
    assert from_engine(ValueError("odd")).body == "Code: 1001. DB::Exception: odd. (STD_EXCEPTION)"
