"""A partition of the state topic as workers write it, with takeovers, zombies, repairs and evictions, and its truth."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sluicegate_schemas.state import (
    CLAIM_KEY,
    ENCODE,
    EPOCH_BYTES,
    HEADER_KEY,
    TOMBSTONE_EPOCH_HEADER,
    TOMBSTONE_REPAIR_HEADER,
    Claim,
    Header,
    RollupCell,
    rollup_key,
)

OPERATIONS = ("search.knn", "documents.create", "inference.llm")


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


@dataclass
class Owner:
    """A worker that holds, or once held, the partition: its epoch and the cells that it has in memory."""

    epoch: int
    cells: dict[bytes, RollupCell]
    flush: int = 0


@dataclass
class StateLog:
    """``batches`` are the flushes and claims in log order; ``truth`` the last rightful value of each cell."""

    random: random.Random
    minute: int = 29_000_000
    evictions: bool = True
    batches: list[list[Record]] = field(default_factory=list)
    truth: dict[bytes, RollupCell] = field(default_factory=dict)
    owner: Owner = field(init=False)
    former: list[Owner] = field(default_factory=list)
    end: int = 0
    to_repair: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.owner = Owner(0, {})
        self.take_over()

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]

    def step(self) -> None:
        """One thing that happens, drawn by lot."""
        actions = [self.flush, self.flush, self.flush, self.flush, self.take_over, self.zombie_flush, self.repair]
        if self.evictions:
            actions.append(self.evict)
        self.random.choice(actions)()

    def flush(self) -> None:
        changed = self._count(self.owner)
        self.truth.update({key: self._copy(self.owner.cells[key]) for key in changed})
        self._append(self.owner, {key: self.owner.cells[key] for key in changed})

    def take_over(self) -> None:
        """A new owner folds the log and claims; the former one does not know."""
        if self.owner.epoch:
            self.former.append(self.owner)
        number = (self.owner.epoch >> 32) + 1
        cells = {key: self._copy(cell) for key, cell in self.owner.cells.items()}
        self.owner = Owner(number << 32 | self.random.getrandbits(32), cells, self.owner.flush)
        self._append_raw([(CLAIM_KEY, self.owner, ENCODE(Claim("w", number, 0)), ())])

    def zombie_flush(self) -> None:
        """A former owner writes on, unaware; all of it is void."""
        if self.former:
            zombie = self.random.choice(self.former)
            changed = self._count(zombie)
            self._append(zombie, {key: zombie.cells[key] for key in changed})
            self.to_repair |= changed

    def repair(self) -> None:
        """The owner puts its own values, or their absence, on top of void records."""
        if self.to_repair:
            self._append(self.owner, {key: self.owner.cells.get(key) for key in self.to_repair}, repair=True)
            self.to_repair = set()

    def evict(self) -> None:
        if self.owner.cells:
            keys = self.random.sample(sorted(self.owner.cells), self.random.randint(1, len(self.owner.cells)))
            for key in keys:
                del self.owner.cells[key]
            self.minute += 1
            self._append(self.owner, dict.fromkeys(keys, None))

    def _count(self, owner: Owner) -> set[bytes]:
        changed = set()
        for _ in range(self.random.randint(1, 4)):
            org, operation = self.random.choice("ab"), self.random.choice(OPERATIONS)
            minute = self.minute + self.random.randint(0, 1)
            made_anew = rollup_key(f"org_{org}", f"key_{org}", operation, minute, self.end)
            prefix = made_anew[: made_anew.rindex(b"|") + 1]
            key = next((held for held in owner.cells if held.startswith(prefix)), made_anew)
            cell = owner.cells.setdefault(key, RollupCell("search"))
            cell.requests += 1
            cell.events += 1
            cell.units += self.random.randint(1, 9)
            cell.credits_micro += self.random.randint(0, 10**6)
            changed.add(key)
        return changed

    @staticmethod
    def _copy(cell: RollupCell) -> RollupCell:
        return RollupCell(*(getattr(cell, name) for name in cell.__struct_fields__))

    def _append(self, owner: Owner, rows: Mapping[bytes, RollupCell | None], *, repair: bool = False) -> None:
        owner.flush += 1
        header = Header(owner.flush, self.end, -1, 1_750_000_000_000 + self.end, 1, 0, 0, [])
        marks = ((TOMBSTONE_REPAIR_HEADER, b""),) if repair else ()
        contents = [(key, owner, None if cell is None else ENCODE(cell), marks) for key, cell in rows.items()]
        self._append_raw([*contents, (HEADER_KEY, owner, ENCODE(header), ())])

    def _append_raw(self, contents: list[tuple[bytes, Owner, bytes | None, tuple[tuple[str, bytes], ...]]]) -> None:
        batch = []
        for key, owner, payload, marks in contents:
            epoch = owner.epoch.to_bytes(EPOCH_BYTES, "big")
            if payload is None:
                batch.append(Record(self.end, key, None, ((TOMBSTONE_EPOCH_HEADER, epoch), *marks)))
            else:
                batch.append(Record(self.end, key, epoch + payload))
            self.end += 1
        self.batches.append(batch)


def make_log(seed: int, steps: int, *, evictions: bool = True) -> StateLog:
    """The log that ``seed`` draws; all void records are repaired at its end."""
    log = StateLog(random.Random(seed), evictions=evictions)
    for _ in range(steps):
        log.step()
    log.repair()
    return log


def compacted(records: list[Record], below: int) -> list[Record]:
    """What a compaction of the offsets under ``below`` leaves."""
    newest = {record.key: record.offset for record in records if record.offset < below}
    return [record for record in records if record.offset >= below or newest[record.key] == record.offset]
