"""Bugs in ``clickhouse``: what the sink makes of the state log, and in which order it says so."""

from .plant import Plant, edit

PLANTS = (
    Plant(
        "sink commit before insert",
        "Position and commit are written before the rows: a sink that dies between the two never writes them.",
        (
            edit(
                "clickhouse.intake:Intake.write",
                (
                    "    await self._patience(lambda: self._tables.insert(positions))\n"
                    "    for done in acknowledge:\n"
                    "        done()\n",
                    "",
                ),
                (
                    "    await self._patience(lambda: self._tables.insert(usage))\n",
                    "    await self._patience(lambda: self._tables.insert(positions))\n"
                    "    for done in acknowledge:\n"
                    "        done()\n"
                    "    await self._patience(lambda: self._tables.insert(usage))\n",
                ),
            ),
        ),
    ),
    Plant(
        "rollup without source partition",
        "Rollup rows name the topic alone as their source: those of two partitions replace each other, and no bucket "
        "can be held against the partition that it came from.",
        (
            edit(
                "clickhouse.rows:StateRows.__init__",
                ("    self._source = source\n", '    self._source = source.partition("/")[0]\n'),
            ),
        ),
    ),
    Plant(
        "hole believed by the sink at once",
        "A run that does not follow on the last one is taken: what Faust had dropped between the two is never written.",
        (
            edit(
                "clickhouse.cursor:Cursor.take",
                ("if first > self.next_offset and first != self._hole_ends_at:", "if False:"),
            ),
        ),
    ),
)
