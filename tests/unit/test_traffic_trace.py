"""A trace file is read whole or refused with the line that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.trace import TOKENS_MAX, TraceError, parse_trace, read_trace

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
RECORDED = Path(__file__).parents[2] / "examples" / "data" / "AzureLLMInferenceTrace_code.csv"


def refusal(*lines: str) -> str:
    with pytest.raises(TraceError) as caught:
        parse_trace([f"{line}\n" for line in lines], name="t.csv")
    return str(caught.value)


def test_the_recorded_trace_is_read_whole() -> None:
    trace = read_trace(RECORDED)
    assert len(trace.rows) == 8_819
    assert trace.rows[0].arrival_ms == 0
    assert (trace.rows[0].context_tokens, trace.rows[0].generated_tokens) == (4808, 10)
    assert 56 * 60_000 < trace.cycle_ms < 58 * 60_000


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, TOKENS_MAX), st.integers(0, TOKENS_MAX)), min_size=1))
def test_every_row_comes_back_once_in_order_of_arrival(rows: list[tuple[int, int, int]]) -> None:
    lines = [HEADER]
    for offset_ms, context, generated in rows:
        seconds, ms = divmod(offset_ms, 1000)
        hours, rest = divmod(seconds, 3600)
        lines.append(f"2024-02-29 {hours:02d}:{rest // 60:02d}:{rest % 60:02d}.{ms:03d}0000,{context},{generated}")
    trace = parse_trace([f"{line}\n" for line in lines], name="t.csv")
    arrivals = [row.arrival_ms for row in trace.rows]
    first = min(offset for offset, _, _ in rows)
    assert arrivals == sorted(offset - first for offset, _, _ in rows)
    assert sorted(row[2:] for row in trace.rows) == sorted(row[1:] for row in rows)
    assert trace.cycle_ms > arrivals[-1]


def test_columns_may_stand_in_any_order_beside_others_and_after_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"\xef\xbb\xbfGeneratedTokens,Model,TIMESTAMP,ContextTokens\r\n7,x,2024-05-10 00:00:00.5+00:00,9\r\n\r\n"
    )
    (row,) = read_trace(path).rows
    assert row == (2, 0, 9, 7)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2023-11-16 18:17:03,12", "line 3: 2 fields"),
        ("yesterday,1,2", "line 3: TIMESTAMP is 'yesterday'"),
        ("2023-11-16 18:17:03,-1,2", "line 3: ContextTokens is '-1'"),
        ("2023-11-16 18:17:03,1,1e9", "line 3: GeneratedTokens is '1e9'"),
        ("2023-11-16 18:17:03,1,nan", "line 3: GeneratedTokens is 'nan'"),
        ("2023-11-16 18:17:03,1,", "line 3: GeneratedTokens is ''"),
        ("2023-11-16 18:17:03,١,2", "line 3: ContextTokens is '١'"),
        (f"2023-11-16 18:17:03,{10**10},2", "line 3: ContextTokens"),
        ("0001-01-01 00:00:00+14:00,1,2", "line 3: TIMESTAMP"),
        ('"2023,1,2', "line 3: not CSV"),
    ],
)
def test_a_bad_row_is_named_by_its_line(line: str, said: str) -> None:
    assert said in refusal(HEADER, "2023-11-16 18:17:03,1,2", line)


def test_a_file_without_rows_header_or_text_is_refused(tmp_path: Path) -> None:
    assert "is empty" in refusal()
    assert "no rows" in refusal(HEADER)
    assert "must name the column GeneratedTokens" in refusal("TIMESTAMP,ContextTokens", "x,1")
    binary = tmp_path / "t.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not UTF-8"):
        read_trace(binary)
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "missing.csv")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path)
