"""What an operator may choose of the state machine; all bounds are per partition."""

from dataclasses import dataclass

from sluicegate_schemas import bounds

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """The defaults are the contract's (requirements, section 9). Durations are milliseconds of log time.

    Every worker of a generation must use the same values, since a replay has to decide the same again.
    """

    clock_ahead_ms: int = bounds.CLOCK_AHEAD_MS_MAX
    clock_behind_ms: int = bounds.CLOCK_BEHIND_MS_MAX
    dedup_horizon_ms: int = bounds.CLOCK_BEHIND_MS_MAX
    """How long an event's own id is kept, by the event's ``ts``."""
    dedup_ids_max: int = 500_000
    """Above it the oldest second of ids goes, and the horizon follows: events of that second are rejected."""
    producers_max: int = 10_000
    """Above it the producer that was silent longest goes; unknown producers are then heard only from its last event's
    time on."""
    commands_max: int = 100_000
    """Remembered command ids; above it the oldest is forgotten."""
    organizations_max: int = 100_000
    keys_max: int = 1_000_000
    overrides_max: int = 10_000
    """Boosts and exemptions that have not ended; above it another is refused."""
    organization_overrides_max: int = 100
    """The same of one organization."""
    overrides_a_wake: int = 100
    """How many begin or end with one record, at most; the others follow with the next."""
    grants_max: int = 200_000
    account_grants_max: int = 100
    """Grants of one account that are not used up or expired."""
    organization_budgets_max: int = 64
    labels_max: int = 1_000
    """Labels of one organization and month that have a balance; above it they share one."""
    label_ledgers_max: int = 200_000
    """The same for all organizations together."""
    accounts_a_wake: int = 500
    """So many accounts are brought up to a time with one record, where it is due for many at once."""
    entitlements_a_wake: int = 200
    """How many organizations gates are told of again with one record when a catalogue version takes effect."""
    notices_max: int = 1_000
    """Unknown operations and models that are counted by name; above it they share one row."""
    grace_ms: int = DAY_MS
    """How long after its end a month takes late events; afterwards they are corrections of the current month."""
    months_kept: int = 3
    """Ledgers of so many months, the current one included, stay in memory and in the state."""
    start_skew_ms: int = 60_000
    """How far before the log time the start of a request may lie for the rate limits; an earlier one counts there."""
    cells_max: int = 500_000
    """Open rollup cells; above it new ones share one cell an organization and minute."""
    cells_kept_ms: int = 2 * 3_600_000
    """How long after its minute a rollup cell stays open; a later event makes another chunk."""
    balance_rest_ms: int = 200
    """How often the balance of a ledger that changes all the time is told: of an account or organization …"""
    key_balance_rest_ms: int = 1_000
    """… and of a key: there are several of them for each organization, and what is left is nobody's but the
    account's."""
    balance_burst: int = 3
    """So many may be told one after the other before a ledger has to keep that pace: one that changes now and then
    never waits for it."""
    quiet_balance_rest_ms: int = 1_000
    """How often, and never sooner, where requests were counted and no credits: who asks how much is left, or is refused
    a thousand times a second, makes nobody wait for it."""
    pool_balances_max: int = 500
    """Organizations that share their account's credits, of which so many are looked at, and told where their balance is
    another one, each time that balances are published; the others follow in turns."""
    block_step_ms: int = 1_000
    """A standing block that clears later than it said by this much …"""
    block_step_percent: int = 10
    """… is published again once that is this share of what is left of it, any other at its end …"""
    block_interval_ms: int = 250
    """… and not sooner than this after its last publication, but with the first record after that."""
    allows_kept_ms: int = 15 * 60_000
    """How long an ``allow`` stands in the state, to be published again by a new owner; longer than the decisions
    topic's ``min.compaction.lag.ms``."""
    alert_windows_max: int = 100_000
    """Keys whose 429s, and operations whose refused creations, are counted for alerts; above it the one that was silent
    longest is forgotten."""
    gauges_max: int = 100_000
    """Nodes and accounts whose requests under way are known; above it further ones are refused."""
    subjects_max: int = 100_000
    """Subjects that are closed by their operation's interval; above it the oldest is forgotten and counted."""
    operation_buckets_max: int = 100_000
    """Buckets of operations' limits; above it the one that was made first is forgotten and counted."""
    changed_rows_max: int = 10_000
    routes_max: int = 200_000
    """Cached (key, operation) pairs; above it the cache starts anew."""
    lease_ttl_ms: int = 30_000
    """How long a gateway node may admit requests out of a lease, by its own monotonic clock from when it asked."""
    lease_request_ms: int = 300_000
    """How long such a request may run; the node ends it then."""
    lease_late_ms: int = 300_000
    """How long after that its event may still be on its way (a spool, a node that is cut off)."""
    leases_max: int = 100_000
    """Above it nothing is lent."""
    leases_node_max: int = 16
    """The same for one node and limit."""
    lease_share: int = 4
    """A node that has nobody waiting is lent this part of what is left at most (one in so many)."""
