"""Which partition an account lives in: Kafka's default partitioner over the account id."""

from functools import lru_cache

_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Murmur2 with Kafka's seed, as an unsigned 32-bit integer (Apache Kafka, ``Utils.murmur2``)."""
    length = len(data)
    value = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for position in range(0, whole, 4):
        block = int.from_bytes(data[position : position + 4], "little") * 0x5BD1E995 & _MASK
        block = (block ^ block >> 24) * 0x5BD1E995 & _MASK
        value = value * 0x5BD1E995 & _MASK ^ block
    if rest := data[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & _MASK
    value = (value ^ value >> 13) * 0x5BD1E995 & _MASK
    return value ^ value >> 15


@lru_cache(maxsize=65_536)
def partition_of(account_id: str, partitions: int) -> int:
    """The home partition of ``account_id`` among ``partitions``, as Kafka's default partitioner chooses it."""
    return (murmur2(account_id.encode()) & 0x7FFFFFFF) % partitions
