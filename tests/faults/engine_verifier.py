"""Checks a state log against its source, sharing nothing with the engine but the format of the records.

Reads the usage, accounts and state topics of a counting worker and says whether the log is exact: at each header the
count and the checksum of the rows and the ledger hold; at sampled headers, and at the end, the rows are what the source
gives when it is counted up to the header's offset.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition


class Log(NamedTuple):
    """One partition of a topic, as it stands."""

    start: int
    end: int
    records: list[Any]


async def read_log(bootstrap: str, topic: str, partition: int) -> Log:
    """All records of one partition."""
    tp = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50)
    await consumer.start()
    try:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        start = (await consumer.beginning_offsets([tp]))[tp]
        records: list[Any] = []
        while await consumer.position(tp) < end:
            for run in (await consumer.getmany(tp, timeout_ms=200)).values():
                records.extend(run)
        return Log(start, end, records)
    finally:
        await consumer.stop()


class Source:
    """Counts the usage of one partition, envelope by envelope, as the contract of the counting machine says."""

    def __init__(self, usage: Log, accounts: Log) -> None:
        self.rows: dict[str, Any] = {"a|" + json.loads(record.value)["account"]: [1] for record in accounts.records}
        self.rejected: list[int] = []
        self._known = {key[2:] for key in self.rows}
        self._left = iter(usage.records)
        self._next = next(self._left, None)

    def count_up_to(self, offset: int) -> dict[str, Any]:
        """The rows once everything up to and with ``offset`` is counted."""
        while self._next is not None and self._next.offset <= offset:
            if self._next.value != b"\x91\x03":
                self._count(self._next.offset, json.loads(self._next.value))
            self._next = next(self._left, None)
        return self.rows

    def _count(self, offset: int, envelope: dict[str, Any]) -> None:
        ledger = self.rows.setdefault("ledger", [0, 0, 0, 0, 0])
        last = self.rows.setdefault("d|" + envelope["producer"], [0])
        if envelope["sequence"] <= last[0]:
            ledger[3] += 1
            return
        last[0] = envelope["sequence"]
        if envelope["account"] not in self._known:
            ledger[4] += 1
            self.rejected.append(offset)
            return
        ledger[0] += 1
        for key, quantity in envelope["events"]:
            row = self.rows.setdefault("k|" + key, [0, 0])
            row[0] += 1
            row[1] += quantity
            ledger[1] += 1
            ledger[2] += quantity


class Report:
    """What a verification saw; ``faults`` is empty where the log is exact."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.seen: Counter[str] = Counter()
        self.rejected: set[str] = set()


def verify_partition(partition: int, usage: Log, accounts: Log, state: Log, report: Report, seed: int) -> None:
    """Folds the state log by hand, and holds each cut against the source."""
    draw = random.Random(seed)
    source = Source(usage, accounts)
    rows: dict[str, bytes] = {}
    newest: dict[str, bytes | None] = {}
    top, usage_offset, crc_xor = 0, -1, 0
    headers = sum(record.key == b"_head" for record in state.records)
    for record in state.records:
        key = record.key.decode()
        epoch_bytes = record.value[:8] if record.value is not None else dict(record.headers)["e"]
        epoch = int.from_bytes(epoch_bytes, "big")
        newest[key] = record.value
        report.seen["state records"] += 1
        if epoch < top:
            report.seen["void records"] += 1
            continue
        top = epoch
        if key == "_claim":
            report.seen["claims"] += 1
        elif key == "_head":
            header = msgspec.msgpack.decode(record.value[8:])
            report.seen["cuts"] += 1
            where = f"partition {partition} offset {record.offset}"
            if header[1] < usage_offset:
                report.faults.append(f"{where}: the usage offset went back from {usage_offset} to {header[1]}")
            usage_offset = header[1]
            if (header[5], header[6]) != (len(rows), crc_xor):
                report.faults.append(f"{where}: {len(rows)} rows, crc {crc_xor}, but the header says {header[5:7]}")
            if draw.random() < 60 / max(1, headers):
                _compare(where, rows, source.count_up_to(usage_offset), report)
        else:
            if (old := rows.pop(key, None)) is not None:
                crc_xor ^= crc32(old, crc32(key.encode()))
            if record.value is not None:
                rows[key] = record.value[8:]
                crc_xor ^= crc32(rows[key], crc32(key.encode()))
    for key, value in newest.items():
        if key[0] != "_" and (value[8:] if value is not None else None) != rows.get(key):
            report.faults.append(f"partition {partition}: the newest record of {key} is void and was not repaired")
    if any(record.offset > usage_offset and record.value != b"\x91\x03" for record in usage.records):
        report.faults.append(f"partition {partition}: the source ends at {usage.end}, counted up to {usage_offset}")
    _compare(f"partition {partition} at the end", rows, source.count_up_to(usage.end), report)
    report.rejected |= {f"{partition}/{offset}" for offset in source.rejected}
    for name, amount in zip(("envelopes", "events", "quantity", "duplicates", "rejects"), _ledger(rows), strict=True):
        report.seen[name] += amount


def _ledger(rows: dict[str, bytes]) -> list[int]:
    return list(json.loads(rows["ledger"])) if "ledger" in rows else [0] * 5


def _compare(where: str, rows: dict[str, bytes], wanted: dict[str, Any], report: Report) -> None:
    report.seen["cuts compared"] += 1
    got = {key: json.loads(payload) for key, payload in rows.items() if not key.startswith("a|")}
    want = {key: row for key, row in wanted.items() if not key.startswith("a|")}
    if got != want:
        report.faults.append(f"{where}: {'; '.join(_differences(got, want))}")
    counted = [row for key, row in got.items() if key.startswith("k|")]
    if [sum(row[0] for row in counted), sum(row[1] for row in counted)] != _ledger(rows)[1:3]:
        report.faults.append(f"{where}: the ledger is not the sum of the counters")


def _differences(got: dict[str, Any], want: dict[str, Any]) -> Iterator[str]:
    for key in sorted(got.keys() | want.keys())[:2000]:
        if got.get(key) != want.get(key):
            yield f"{key} is {got.get(key)}, should be {want.get(key)}"
            return


async def verify(bootstrap: str, prefix: str, partitions: int, seed: int = 1) -> Report:
    """Verifies all partitions, and the rejects that were sent."""
    report = Report()
    for partition in range(partitions):
        logs = [await read_log(bootstrap, prefix + name, partition) for name in ("usage", "accounts", "state")]
        verify_partition(partition, *logs, report=report, seed=seed + partition)
    sent: set[str] = set()
    for partition in range(partitions):
        log = await read_log(bootstrap, prefix + "rejects", partition)
        report.seen["rejects sent"] += len(log.records)
        sent |= {json.loads(record.value)["id"] for record in log.records}
    if sent != report.rejected:
        missing, surplus = sorted(report.rejected - sent)[:3], sorted(sent - report.rejected)[:3]
        report.faults.append(f"rejects: missing {missing}, too many {surplus}")
    return report
