"""Bugs in shared and carried credits, and in limits of operations: pools, reserves, rollover, intervals, providers."""

from .plant import Plant, edit

PLANTS = (
    Plant(
        "pool's cap forgotten",
        "The cap of a pool's member is not looked at: it may use what the others were to have.",
        (
            edit(
                "streams.domain.pools:Pools._share",
                ("left = None if cap is None else max(0, cap - used)", "left = None"),
            ),
        ),
    ),
    Plant(
        "reserve of a pool open to all",
        "What is reserved for a member of a pool is used by the others.",
        (
            edit(
                "streams.domain.pools:Pools._share",
                ("others = unspent_micro - self._unspent_of(account_id, organization_id, month)", "others = 0"),
            ),
        ),
    ),
    Plant(
        "own reserve closed to oneself",
        "A member's own unspent reserve is kept from it as those of the others are.",
        (
            edit(
                "streams.domain.pools:Pools._share",
                (
                    "others = unspent_micro - self._unspent_of(account_id, organization_id, month)",
                    "others = unspent_micro",
                ),
            ),
        ),
    ),
    Plant(
        "reserved capacity never used",
        "What a category uses is not taken off what is reserved for it: the others stay closed.",
        (
            edit(
                "streams.domain.capacity:Capacity.counted",
                ("        row.used_micro += cost_micro\n", "        pass\n"),
            ),
        ),
    ),
    Plant(
        "category closed by its own reserve",
        "A category's own reserve is kept from it, too.",
        (
            edit(
                "streams.domain.capacity:Capacity._look",
                ("sum(unspent.values()) - unspent.get(category, 0)", "sum(unspent.values())"),
            ),
        ),
    ),
    Plant(
        "rollover of what was used",
        "All that a plan gave its month is carried into the next one, also what was used of it.",
        (
            edit(
                "streams.domain.month_close:MonthClose._roll_over",
                ("left = ledger.plan_micro - ledger.plan_burned_micro", "left = ledger.plan_micro"),
            ),
        ),
    ),
    Plant(
        "rollover behind the plan",
        "What was carried over burns after the plan's own credits, and lapses at the month's end.",
        (
            edit(
                "streams.domain.month_close:MonthClose._roll_over",
                ("GrantRow(left, _PRIORITY, ", "GrantRow(left, 2 * _PRIORITY, "),
            ),
        ),
    ),
    Plant(
        "failed batch stays closed",
        "A batch that the server failed on is closed for its interval as one that it took.",
        (
            edit(
                "streams.domain.operation_limits:OperationLimits.counted",
                ("event.status < 500", "event.status < 600"),
            ),
        ),
    ),
    Plant(
        "cache hit takes from its provider",
        "What was answered from a cache counts against the provider's quantity a minute.",
        (
            edit(
                "streams.domain.operation_limits:OperationLimits.counted",
                ("        if not charge.cached:\n", "        if charge:\n"),
            ),
        ),
    ),
    Plant(
        "provider's debt forgotten",
        "A new owner starts with empty buckets of operations: what passed a provider's limit is let in after it.",
        (
            edit(
                "streams.domain.operation_limits:OperationLimits._restore",
                ("bucket.arrival = int(row.arrival)", "bucket.arrival = 0"),
            ),
        ),
    ),
)
