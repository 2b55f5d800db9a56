"""Bugs in ``streams/domain``: dedup, rating, months, ledgers, rollups, limits and verdicts."""

from .plant import Plant, edit

PLANTS = (
    Plant(
        "stale change overwrites",
        "What a change of an organization was made from is not compared with what is in force: it undoes the change of "
        "another writer.",
        (
            edit(
                "streams.domain.accounts:Accounts.put_organization",
                ("not _is_in_force(before, command.based_on)", "before is None"),
            ),
        ),
    ),
    Plant(
        "revision lost at a takeover",
        "A new owner has forgotten which put of an organization is in force: a change that was made from an older one "
        "acts.",
        (
            edit(
                "streams.domain.accounts:Accounts.restore_organization",
                (
                    "self.organizations[organization_id] = row",
                    "row.revision, self.organizations[organization_id] = None, row",
                ),
            ),
        ),
    ),
    Plant(
        "dedup by last position",
        "Only the very envelope that came last is known again: a retry that arrives behind a later envelope is counted "
        "twice.",
        (
            edit(
                "streams.domain.dedup:Producers.is_repeated",
                (
                    "(epoch < row.epoch or (epoch == row.epoch and sequence <= row.sequence))",
                    "(epoch, sequence) == (row.epoch, row.sequence)",
                ),
            ),
        ),
    ),
    Plant(
        "dedup mark not in the flush",
        "The highest sequence of a producer is remembered in memory alone: a retry after a takeover is counted twice.",
        (
            edit(
                "streams.domain.dedup:Producers.mark",
                ('    self._changed[row_key("p", producer_id)] = row\n', ""),
            ),
        ),
    ),
    Plant(
        "forward counted each time it is sent",
        "A forwarded event is counted without looking whether it came before: one that its sender sent again after a "
        "takeover counts twice.",
        (
            edit(
                "streams.domain.intake:Intake._count_single",
                (
                    "self._count_once(event, admission.routes[0], record, 0)",
                    "if admission.routes[0] is None or logged_at_ms == origin.logged_at_ms:\n"
                    "        self._count_once(event, admission.routes[0], record, 0)\n"
                    "    else:\n"
                    "        self.totals.counted += self._meter.count(events, admission.routes, record)",
                ),
            ),
        ),
    ),
    Plant(
        "forwarded event counted at both places",
        "The partition that forwards an event has it among its own counted ones too.",
        (
            edit(
                "streams.domain.intake:Intake._forward",
                (
                    "    self.totals.forwarded += 1\n",
                    "    self.totals.forwarded += 1\n    self.totals.counted += 1\n",
                ),
            ),
        ),
    ),
    Plant(
        "decision sequence reset",
        "A new owner numbers its decisions anew without its epoch: gates take them for old ones.",
        (
            edit(
                "streams.domain.outputs:Outbox.start_epoch",
                ("self._epoch, self._counter = epoch, 0", "self._counter = 0"),
            ),
        ),
    ),
    Plant(
        "off-by-one at the month's end",
        "The end of an event's minute decides its month: the last minute of a month is billed in the next one.",
        (
            edit(
                "streams.domain.route_table:RouteTable.bind",
                ("month_index(ts_ms), self._time", "month_index((minute + 1) * MINUTE_MS), self._time"),
            ),
        ),
    ),
    Plant(
        "late event in the wrong month",
        "An event that arrives within the grace after its month's end is booked into the new month at once.",
        (
            edit(
                "streams.domain.route_table:RouteTable.bind",
                (" and time.now_ms >= month_start_ms(month + 1) + self._settings.grace_ms", ""),
            ),
        ),
    ),
    Plant(
        "debt forgotten",
        "A new owner starts with empty buckets: who was in debt before a takeover is let in after it.",
        (
            edit(
                "streams.domain.limits:Buckets._unpack",
                ("bucket.arrival = arrival", "bucket.arrival = 0"),
            ),
        ),
    ),
    Plant(
        "reject swallowed",
        "An event that lacks the quantity that its price is for is passed over without a reject.",
        (
            edit(
                "streams.domain.meter:Meter.count",
                (
                    'record.refuse(index, "missing_quantity", field, "is needed by the rate card")\n'
                    "                        continue\n",
                    "continue\n",
                ),
            ),
        ),
    ),
    Plant(
        "storage floor per sample",
        "What storage costs is rounded down at each sample instead of over the month.",
        (
            edit(
                "streams.domain.storage:StorageMeter.plan",
                ("charged = floor(held)", "charged = held"),
                ("floor(held) - charged", "floor(held - charged)"),
            ),
        ),
    ),
    Plant(
        "half credits rounded down",
        "A price per unit is rounded down where it should be rounded half up.",
        (
            edit(
                "sluicegate_schemas.rating:_per_unit",
                ("(amount * double_price + per) // double_per", "amount * double_price // double_per"),
            ),
        ),
    ),
    Plant(
        "breakdown without the corrections",
        "Credits of a closed month are added to the ledger, but not to its breakdown.",
        (
            edit(
                "streams.domain.route_table:RouteTable._fold",
                (
                    "            ledger.breakdown_micro[group] += credits_micro\n",
                    "            if route.correction is None:\n"
                    "                ledger.breakdown_micro[group] += credits_micro\n",
                ),
            ),
        ),
    ),
    Plant(
        "second chunk of a minute over the first",
        "The rollup cell of a late event gets the key of the cell that was evicted: its row replaces the true one.",
        (
            edit(
                "streams.domain.rollup:Cells.make",
                (
                    "rollup_key(organization_id, api_key_id, operation, minute, offset)",
                    "rollup_key(organization_id, api_key_id, operation, minute, 0)",
                ),
            ),
        ),
    ),
    Plant(
        "command memory lost at a takeover",
        "A new owner has forgotten which operator commands acted: one that is sent again acts again.",
        (
            edit(
                "streams.domain.commands:Commands.restore",
                ("    self._done[key] = row\n", "    pass\n"),
            ),
        ),
    ),
    Plant(
        "log time falls",
        "The time of a partition follows a broker's clock that jumps back: minutes and months begin twice.",
        (
            edit(
                "streams.domain.partition:Partition._advance_to",
                ("if log_time_ms > time.now_ms:", "if log_time_ms:"),
            ),
        ),
    ),
)
