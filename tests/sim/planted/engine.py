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
        "No reader holds a former owner's records for void: recovery, repair and sink take a zombie's rows for true.",
        (
            edit(
                "streams.engine.fold:Epochs.feed",
                (
                    "    if epoch < self.top_epoch:\n        return Verdict(False, epoch, repair)\n"
                    "    self.top_epoch = epoch\n",
                    "    self.top_epoch = max(self.top_epoch, epoch)\n",
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
        "outbox not sent again",
        "A new owner does not send what the last header still holds: rejects and forwards of a flush whose owner died "
        "before sending them are lost.",
        (edit("streams.engine.outbox:Outbox.recover", ("for record in records]", "for record in ()]")),),
    ),
)
