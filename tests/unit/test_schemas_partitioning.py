"""An account lives in the partition that any Kafka client would choose for it."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_schemas.partitioning import murmur2, partition_of
from tests.property.schemas_events import unhurried


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_apache_kafka(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@unhurried
@given(st.binary(max_size=80))
def test_murmur2_is_that_of_aiokafka(key: bytes) -> None:
    assert murmur2(key) == murmur2_of_aiokafka(key) & 0xFFFFFFFF


@unhurried
@given(st.from_regex(r"org_[A-Za-z0-9_-]{1,60}", fullmatch=True), st.integers(1, 64))
def test_an_account_goes_where_the_default_partitioner_sends_it(account_id: str, partitions: int) -> None:
    every = list(range(partitions))
    assert partition_of(account_id, partitions) == DefaultPartitioner()(account_id.encode(), every, every)
