"""Bugs in ``streams/engine``: the state log, its one writer, its recovery, and what goes out."""

from .plant import Plant, edit

PLANTS = (
    Plant(
        "output before flush",
        "Rejects, forwards and entitlements go out at once: a crash before the flush leaves the world told of what the "
        "state does not know.",
        (
            edit(
                "streams.engine.outbox:Outbox.add",
                ("    for record in outputs.durable:\n        self._new.append(self._keep(record))\n", ""),
                (
                    "    return [",
                    "    return [self._send(self._keep(record), record) for record in outputs.durable] + [",
                ),
            ),
        ),
    ),
    Plant(
        "header offset off by one",
        "The header says the next offset to read where the last applied one is meant: each recovery passes over one "
        "usage record.",
        (
            edit(
                "streams.engine.flush:FlushWriter.build",
                ("        flush,\n        usage_offset,\n", "        flush,\n        usage_offset + 1,\n"),
            ),
        ),
    ),
    Plant(
        "flush split in two batches",
        "Rows and header are appended one after the other: a crash between the two leaves rows that no header covers.",
        (
            edit(
                "streams.engine.runner:Runner._append",
                (
                    "        base_offset = await self._broker.append(self._state_topic, self.partition, "
                    "append.records)\n",
                    "        *rows, last = append.records\n"
                    "        base_offset = await self._broker.append("
                    "self._state_topic, self.partition, rows or [last])\n"
                    "        if rows:\n"
                    "            await self._broker.append(self._state_topic, self.partition, [last])\n",
                ),
            ),
        ),
    ),
    Plant(
        "claim not awaited",
        "A new owner starts from the state as it read it, without waiting for its claim to stand: what the old owner "
        "flushed in between is lost, and counted again.",
        (
            edit(
                "streams.engine.recovery:Recovery.state_read",
                ("self._end = end\n", "self._end = end + 1\n"),
                ("_Step.CLAIMING", "_Step.CHECKING_SOURCES"),
                ("claim_record])]", "claim_record]), LookAtSources()]"),
            ),
            edit(
                "streams.engine.recovery:Recovery.claimed",
                ("    start, self._end =", "    return []\n    start, self._end ="),
            ),
        ),
    ),
    Plant(
        "tail before the claim not read",
        "What the old owner flushed between the new owner's reading and its claim is not folded in.",
        (
            edit(
                "streams.engine.recovery:Recovery.claimed",
                (
                    "return [ReadState(start, base_offset)] if base_offset > start else self.state_read(base_offset)",
                    "return self.state_read(base_offset)",
                ),
            ),
        ),
    ),
    Plant(
        "void record kept",
        "A recovery takes the rows of a zombie for true ones.",
        (
            edit(
                "streams.engine.fold:Fold.feed",
                (
                    "        self.void_records += 1\n        self.void_keys.add(key)\n        return verdict\n",
                    "        self.void_records += 1\n",
                ),
            ),
        ),
    ),
    Plant(
        "zombie not fenced",
        "A new owner goes on in the epoch of the old one: what that one still writes stands beside its own.",
        (
            edit(
                "streams.engine.recovery:Recovery.state_read",
                (
                    "max((self._fold.top_epoch >> 32) + 1, self._generation) << 32 | self._nonce",
                    "self._fold.top_epoch or self._generation << 32 | self._nonce",
                ),
            ),
        ),
    ),
    Plant(
        "loss of the partition not noticed",
        "An owner that finds a higher epoch in its log goes on as if it were a former owner's.",
        (
            edit(
                "streams.engine.fence:Fence.state_read",
                ("if any(epoch >= self.epoch for epoch, _ in foreign):", "if False:"),
            ),
        ),
    ),
    Plant(
        "continuity guard off",
        "An append that does not stand where the last one ended tells its owner nothing: it goes on unaware of the "
        "other writer.",
        (
            edit(
                "streams.engine.fence:Fence._look_at", ("    self.jumps += 1\n", "    return []\n    self.jumps += 1\n")
            ),
        ),
    ),
    Plant(
        "repairs forgotten",
        "The rows that a zombie's void records stand on are not written again: compaction keeps the void ones and "
        "drops the true.",
        (
            edit(
                "streams.engine.core:PartitionCore.state_read",
                ("        self._writer.repairs.update(repairs)\n", ""),
            ),
            edit(
                "streams.engine.recovery:Recovery.sources",
                ("for key in self._fold.void_keys", "for key in ()"),
            ),
        ),
    ),
    Plant(
        "outbox not sent again",
        "A new owner does not send what the last header still holds: rejects and forwards of a flush whose owner died "
        "before sending them are lost.",
        (edit("streams.engine.outbox:Outbox.recover", ("for record in records]", "for record in ()]")),),
    ),
    Plant(
        "lease ignored",
        "A worker whose heartbeats no longer arrive goes on deciding and speaking for its partitions.",
        (
            edit(
                "streams.engine.core:PartitionCore.accepts_input",
                ("        and now <= self._lease_until\n", ""),
            ),
            edit("streams.engine.core:PartitionCore._flush_due", ("if now > self._lease_until:", "if False:")),
            edit(
                "streams.engine.runner:Runner._publish",
                ("while monotonic() > self._lease_until:", "while False:"),
            ),
        ),
    ),
    Plant(
        "catalogue age ignored",
        "A worker that cannot read the catalogue topic goes on rating by what it knew.",
        (
            edit(
                "streams.engine.core:PartitionCore.accepts_input",
                ("catalogue_age_max_s", "catalogue_age_max_s + 10**9"),
            ),
        ),
    ),
    Plant(
        "hole in the input believed at once",
        "A batch that does not follow on the last one is taken, without a look at what was lost between the two.",
        (
            edit(
                "streams.engine.intake:UsageIntake.fetched",
                ("if records[0].offset > self._next:", "if records[0].offset > self._next and self._seeking:"),
            ),
        ),
    ),
    Plant(
        "parked core not compared with the log",
        "A partition that comes back to its old owner is taken up where it was left, though another had it since.",
        (
            edit(
                "streams.engine.core:PartitionCore.returned",
                (" or state_end != self._fence.next_offset", ""),
            ),
        ),
    ),
)
