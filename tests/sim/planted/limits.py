"""Bugs in what stands beside plain metering: grants, boosts, exemptions, budgets, corrections, quotas, categories."""

from .plant import Plant, edit

PLANTS = (
    Plant(
        "grant burned twice",
        "What a grant has paid is taken from the sources behind it too: credits burn faster than they are used.",
        (
            edit(
                "streams.domain.burn:settle",
                (
                    "        ledger.granted_burned_micro += micro\n            due -= micro\n",
                    "        ledger.granted_burned_micro += micro\n",
                ),
            ),
        ),
    ),
    Plant(
        "expired grant still burns",
        "A grant's end is not looked at: what was left of it goes on paying.",
        (
            edit(
                "streams.domain.grants:Grants._await",
                ("row.expires_ms if row.is_live else", "None if row.is_live else"),
            ),
        ),
    ),
    Plant(
        "grants in the order of their coming",
        "Grants burn by age alone, whatever their priority and end: what expires first is kept and lapses.",
        (
            edit(
                "streams.domain.burn:Grant.__init__",
                (
                    "(row.priority, end_ms, row.effective_ms, kind, identifier)",
                    "(100, row.effective_ms, row.effective_ms, kind, identifier)",
                ),
            ),
        ),
    ),
    Plant(
        "late event paid by today's grants",
        "What comes late for the month before burns the grants that are alive now, not those of that month's end.",
        (
            edit(
                "streams.domain.grants:Grants.settle_late",
                ("at_end = book.at_end_of(month - 1)", "at_end = book.live"),
            ),
        ),
    ),
    Plant(
        "revoked grant kept",
        "A grant that was taken back goes on paying.",
        (
            edit(
                "streams.domain.grants:Grants.take_back",
                ("    self._remove(book, found[0])\n", "    pass\n"),
            ),
        ),
    ),
    Plant(
        "boost that never ends",
        "The limits of a boost stay raised when its time is over.",
        (
            edit(
                "streams.domain.overrides:Overrides._remove",
                ("    self.context.plans.in_force.end(*names)\n", "    pass\n"),
            ),
        ),
    ),
    Plant(
        "exemption of the wrong key",
        "An exemption of one key takes the limit off the keys beside it too.",
        (
            edit(
                "streams.domain.in_force:InForce.exempt",
                ("row.api_key_id == api_key_id and row.limit_name", "row.limit_name"),
            ),
        ),
    ),
    Plant(
        "budget window off by one",
        "What is dated ahead into the next day or month is counted in the window that still runs.",
        (
            edit(
                "streams.domain.budgets:Budgets._spend",
                ("if window == row.window:", "if window in (row.window, row.window + 1):"),
            ),
        ),
    ),
    Plant(
        "budget forgets what came ahead",
        "A window begins with nothing used, also where events of its time were counted before it began.",
        (
            edit(
                "streams.domain.budgets:Budgets._roll",
                ("row.ahead_micro if window == row.window + 1 else 0", "0"),
            ),
        ),
    ),
    Plant(
        "correction in the wrong month",
        "A charge for the month before is booked in the current one, also while that month takes late events.",
        (
            edit(
                "streams.domain.corrections:Corrections._charge",
                ("if is_over or month == moment.month else", "if is_over or month <= moment.month else"),
            ),
        ),
    ),
    Plant(
        "category token not taken",
        "A request takes its tokens from the key's own buckets alone: categories limit nothing.",
        (
            edit(
                "streams.domain.limits:Buckets.taken_by",
                (
                    "(*every[:2], *(every[2 + at] for at, name in enumerate(CATEGORIES) if name == category))",
                    "every[:2]",
                ),
            ),
        ),
    ),
    Plant(
        "quota delta of a 4xx counted",
        "What a refused request would have made is counted among what the organization holds.",
        (
            edit(
                "streams.domain.quotas:Quotas.counted",
                (" or not 200 <= event.status <= 299", ""),
            ),
        ),
    ),
    Plant(
        "gauge of a dead node kept",
        "What a node served when it died counts for good: its requests are never free again.",
        (
            edit(
                "streams.domain.gauges:Gauges.wake",
                ("    self._remove(name, None)\n", "    self._rows.pop(name, None)\n"),
            ),
        ),
    ),
    Plant(
        "revoked key still counts",
        "A key that was revoked goes on filling the organization's quota of keys.",
        (
            edit(
                "streams.domain.accounts:Accounts.live_keys_of",
                ("self._live_keys[organization_id]", "len(self._keys_of.get(organization_id, ()))"),
            ),
        ),
    ),
    Plant(
        "trail without grants and limits",
        "The audit trail leaves out what acted on grants and limits.",
        (
            edit(
                "streams.domain.commands:Commands._obey_once",
                ("    self._outbox.trail(", "    isinstance(command, KeyPut) and self._outbox.trail("),
            ),
        ),
    ),
)
