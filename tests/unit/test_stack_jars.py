"""The table of pinned jars."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.jars import TABLE, Jar, read_table


def test_the_table_pins_kafka_and_names_no_address() -> None:
    jars = read_table()
    assert any(jar.artifact == "kafka_2.13" and jar.version == "4.4.0" for jar in jars)
    assert len({jar.file_name for jar in jars}) == len(jars) == 45
    assert "://" not in TABLE.read_text()


@pytest.mark.parametrize(
    "line", ["a:b:1", "a:b:1\tABC\t3", "a:b\t" + "0" * 64 + "\t3", "../a:b:1\t" + "0" * 63 + "\t3"]
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str) -> None:
    table = tmp_path / "jars.tsv"
    table.write_text(f"# comment\n{line}\n")
    with pytest.raises(ValueError, match="line 2"):
        read_table(table)


@given(content=st.binary(min_size=1, max_size=200), position=st.integers(min_value=0), flip=st.integers(1, 255))
def test_one_changed_byte_is_noticed_by_the_full_check_alone(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, position: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("jar") / "a-1.jar"
    path.write_bytes(content)
    jar = Jar("g", "a", "1", hashlib.sha256(content).hexdigest(), len(content))
    assert jar.has_right_content(path)
    damaged = bytearray(content)
    damaged[position % len(content)] ^= flip
    path.write_bytes(damaged)
    assert jar.has_right_size(path)
    assert not jar.has_right_content(path)
