"""Bugs in hard limits and in what gates keep count of: leases, reservations, slots, subjects."""

from .plant import Plant, edit

PLANTS = (
    Plant(
        "lent twice",
        "What is lent already does not count when something is lent: gateways hold more than there is.",
        (
            edit(
                "streams.domain.escrow:Escrow._left_micro",
                ("return left_micro - self.book.lent_micro(purse, window)", "return left_micro"),
            ),
        ),
    ),
    Plant(
        "lease of a dead node kept",
        "A lease whose time is over is not freed: what a node held when it died is out of reach for good.",
        (
            edit(
                "streams.domain.escrow:Escrow._free_expired",
                ("self.book.due(self.time.now_ms, _FREED_AT_ONCE_MAX)", "()"),
            ),
        ),
    ),
    Plant(
        "lease freed while its requests run",
        "A lease is freed when nothing more is admitted out of it: what its last requests cost is not in the log yet.",
        (
            edit(
                "streams.domain.escrow:Escrow._lend",
                (
                    "self.time.now_ms + lives_ms + settings.lease_late_ms",
                    "self.time.now_ms + settings.lease_ttl_ms // 4",
                ),
            ),
        ),
    ),
    Plant(
        "cost not taken off its lease",
        "An event that names a lease is counted, and what it cost stays lent as well: credits are out of reach.",
        (
            edit(
                "streams.domain.escrow:Escrow.counted",
                ("self.book.use(lease_id, cost_micro)", "0 * cost_micro"),
            ),
        ),
    ),
    Plant(
        "lease said before its flush",
        "A gateway hears of its lease at once: a worker that dies before the flush lends the same credits again.",
        (
            edit(
                "streams.domain.outputs:Outbox.lease",
                (
                    "self._waiting.durable.append(OutboxRecord(topics.DECISIONS.name, self._partition, key, value))",
                    "self._waiting.early.append(OutboxRecord(topics.DECISIONS.name, self._partition, key, value))",
                ),
            ),
        ),
    ),
    Plant(
        "lease held against one month",
        "A lease at a month's end is held against the month that it was lent in alone: what is used of it in the next "
        "one was lent there, too.",
        (
            edit(
                "streams.domain.escrow:Escrow._lend",
                ("windows = list(range(first, last + 1))", "windows = [first]"),
            ),
        ),
    ),
    Plant(
        "worst case not reserved",
        "A gate holds nothing back while a request runs: parallel requests are admitted out of the same lease.",
        (
            edit(
                "sluicegate.gate.leases:Purse.reserve",
                ("    lease.reserved_micro += worst_micro\n", "    worst_micro and lease.running\n"),
            ),
            edit(
                "sluicegate.gate.leases:Purse.settle",
                ("    lease.reserved_micro -= worst_micro\n", "    worst_micro and lease.running\n"),
            ),
        ),
    ),
    Plant(
        "lease given back with requests on it",
        "A gate gives a lease back while requests run on it: their cost is lent to somebody else by then.",
        (
            edit(
                "sluicegate.gate.leases:Purse._return_settled",
                ("settled = [lease for lease in self.closing if not lease.running]", "settled = list(self.closing)"),
                ("self.closing = [lease for lease in self.closing if lease.running]", "self.closing = []"),
            ),
            edit(
                "sluicegate.gate.leases:Purse.settle",
                ("    if lease in self.closing:\n        self._return_settled()\n", ""),
            ),
        ),
    ),
    Plant(
        "slots of others alone",
        "A gate that looks for a free slot leaves out what it serves itself.",
        (
            edit(
                "sluicegate.gate.firing:slots",
                ("if own + others >= limit:", "if others >= limit:"),
            ),
        ),
    ),
    Plant(
        "batch not remembered",
        "A gate forgets which batch it has just let in: only the workers' word closes it, a moment later.",
        (
            edit(
                "sluicegate.gate.gate:Gate.begin",
                ("        self._intervals.close(once, until_ms, now)\n", ""),
            ),
        ),
    ),
    Plant(
        "subject's slot never free",
        "What a node serves of a cluster is added when it says so, and not taken off again when it says otherwise.",
        (
            edit(
                "streams.domain.gauges:Gauges._add",
                (
                    "(organization_id, operation, subject), sign * count)",
                    "(organization_id, operation, subject), count)",
                ),
            ),
        ),
    ),
)
