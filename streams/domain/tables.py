"""The rows of a partition's state: one place for their tables, keys and fields.

A row key is the table's letter and the identifiers, joined by ``|``, which none of them can hold but an event or
command id, which therefore comes last. A payload is a MessagePack array that only ever grows at the end. Rollup cells
(table ``c``) belong to the contract: ``sluicegate_schemas.state``.
"""

from typing import Final, Protocol

import msgspec

from sluicegate_schemas.state import ENCODE

from .scopes import ScopeNames

COUNT_MAX: Final = 2**63 - 1
"""Counters that the contract does not bound stop here (a row holds 64 bits)."""
PLAN_IS_TOTAL: Final = -1
GROUPS: Final = ("documents", "inference", "search", "compute", "storage", "upload")
"""The breakdown groups in the order of a ledger's amounts; new groups are appended."""


class Row(Protocol):
    """A live thing that can write itself as a row."""

    def encode(self) -> bytes:
        """The row's payload."""


class _ArrayRow(msgspec.Struct, array_like=True, gc=False):
    def encode(self) -> bytes:
        return ENCODE(self)


class OrganizationRow(_ArrayRow):
    """``o|organization``. Null limits are the plan's; ``rates_own`` is (per second, burst, per minute).

    ``shares_own`` follows ``limits.CATEGORIES``; a quota of None is no limit; ``failure_modes_own`` holds (mode,
    allowance percent) by category; ``pool`` is (cap, reserved) in micro-credits; ``revision`` is the offset of the
    command that put it, None where a worker did that did not keep it.
    """

    account_id: str
    tier: str
    credits_micro_own: int | None
    rates_own: tuple[int, int, int] | None
    shares_own: tuple[int, int, int, int, int] | None = None
    concurrency_own: int | None = None
    quotas_own: dict[str, int | None] | None = None
    objects_per_batch_own: int | None = None
    features_own: dict[str, bool | int | str | list[str]] | None = None
    credits_mode_own: str | None = None
    failure_modes_own: dict[str, tuple[str, int | None]] | None = None
    pool: tuple[int | None, int] | None = None
    revision: int | None = None


class KeyRow(_ArrayRow):
    """``k|key``. ``scopes`` None: all."""

    organization_id: str
    key_sha256: str
    mode: str
    revoked: bool
    scopes: list[str] | None = None


class LedgerRow(_ArrayRow):
    """``l|kind|id|month``: credits of a month. ``breakdown_micro`` follows ``GROUPS`` and sums to ``used_micro``.

    ``corrections_micro`` says how much of ``used_micro`` belongs to months that were closed when it came. The others
    are as in ``ledger.Ledger``; a row from before there were grants has ``PLAN_IS_TOTAL``. ``failures`` and
    ``durations`` (requests by ``service_levels.bucket_of``) are an organization's.
    """

    account_id: str
    organization_id: str | None
    total_micro: int | None
    used_micro: int
    breakdown_micro: list[int]
    requests: int
    corrections_micro: dict[str, int]
    plan_micro: int | None = PLAN_IS_TOTAL
    plan_burned_micro: int = 0
    granted_micro: int = 0
    granted_burned_micro: int = 0
    charges_micro: dict[str, int] = {}
    failures: int = 0
    durations: dict[int, int] = {}


class GrantRow(_ArrayRow):
    """``j|kind|account|id``: credits given to an account; None never expires. ``kind`` is ``grant`` or what it came
    from: ``boost``, ``correction``, ``rollover``. ``month`` and ``is_live`` are as of when the account was brought up:
    usage that is not settled yet is of that month, and burns what was alive then."""

    credits_micro: int
    priority: int
    effective_ms: int
    expires_ms: int | None
    burned_micro: int = 0
    month: int = 0
    is_live: bool = False


class CapacityRow(_ArrayRow):
    """``w|organization|category``: credits of each month that only the category may use, and what it used in
    ``month``, the newest in which it used any; ``ahead_micro`` was used in the one after that already."""

    credits_micro: int
    month: int
    used_micro: int = 0
    ahead_micro: int = 0


class BudgetRow(_ArrayRow):
    """``u|organization|period|kind|target``: a budget and what is used of it in ``window`` (days or months since 1970);
    ``ahead_micro`` was used in the one after that already."""

    credits_micro: int
    blocks: bool
    mode: str
    thresholds_percent: list[int]
    window: int
    used_micro: int = 0
    ahead_micro: int = 0


class RolledRow(_ArrayRow):
    """``i|rolled``: the month whose unused credits were granted to the next one, up to this account by name."""

    month: int
    account_id: str
    is_under_way: bool = False


class BucketsRow(_ArrayRow):
    """``b|key``: the theoretical arrival times (GCRA) of a key, as decimal text since they may pass 64 bits: in
    milliseconds times the rate that they were taken at.

    Categories are in the order of ``limits.CATEGORIES``, each with its requests a minute; bit n of ``exempt`` says that
    the limit n is off. ``as_of_ms`` is since when the limits are in force, ``is_said`` whether the verdicts that follow
    from them are out.
    """

    requests_per_second: int
    burst: int
    requests_per_minute: int
    second_arrival: str
    minute_arrival: str
    category_rates: list[int] = []
    category_arrivals: list[str] = []
    exempt: int = 0
    as_of_ms: int = 0
    is_said: bool = True


class QuotaRow(_ArrayRow):
    """``q|organization``: how much of each resource it holds."""

    counts: dict[str, int]


class GaugeRow(_ArrayRow):
    """``v|account|node``: what a node serves, until the log time ``until_ms``.

    ``organizations`` are (organization, in flight, [(operation, subject, count)]).
    """

    boot_id: str
    sequence: int
    until_ms: int
    organizations: list[tuple[str, int, list[tuple[str, str, int]]]]


class OperationBucketRow(_ArrayRow):
    """``r|organization|operation|quantity``: the arrival time of an operation's limit, as in ``BucketsRow``."""

    limit: int
    arrival: str
    as_of_ms: int


class ProducerRow(_ArrayRow):
    """``p|producer``. ``missing`` counts the envelopes that its sequence skipped."""

    epoch: int
    sequence: int
    missing: int
    seen_at_ms: int
    ts_ms_max: int


class EventIdRow(_ArrayRow):
    """``f|organization|id``: a counted event with an id of its own: the second of its ``ts``, 8 bytes of its hash."""

    second: int
    digest: int


class HorizonRow(_ArrayRow):
    """``z|horizon``: events before these times can no longer be told from repeated ones."""

    ids_from_ms: int
    producers_from_ms: int


class CommandRow(_ArrayRow):
    """``m|account|command id``: a command that acted. ``digest`` as in ``EventIdRow``."""

    offset: int
    digest: int


class SampleRow(_ArrayRow):
    """``s|organization|operation``: the newest storage sample."""

    ts_ms: int
    amount: int


class HeldRow(_ArrayRow):
    """``h|organization|operation|month``: what storage has cost, as a fraction in decimal text; ``charged_micro`` of
    it (its floor) is in the ledger."""

    numerator: str
    denominator: str
    charged_micro: int


class NoticeRow(_ArrayRow):
    """``n|kind|name``: an operation or model that the card lacks, how often it came, and who used it first."""

    count: int
    organization_id: str = ""


class TotalsRow(_ArrayRow):
    """``t|totals``: what became of all events of the partition's usage log, exact as of the flush."""

    usage_offset: int = -1
    """The last usage record that was applied."""
    counted: int = 0
    duplicate: int = 0
    rejected: int = 0
    forwarded: int = 0
    commands: int = 0
    commands_repeated: int = 0


class OverrideRow(_ArrayRow):
    """``g|boost|organization|id`` raises limits, ``g|exempt|organization|id`` takes ``limit_name`` off (of one key,
    or of all) from ``from_ms`` until ``until_ms``; ``has_begun`` says that this was told to all."""

    from_ms: int
    until_ms: int
    has_begun: bool
    limit_name: str | None = None
    api_key_id: str | None = None
    credits_micro: int | None = None
    rates: tuple[int, int, int] | None = None
    concurrency: int | None = None
    quotas: dict[str, int | None] | None = None


class AlertRow(_ArrayRow):
    """``a|rule|scope|detail``: an alert that fired and did not clear yet. ``detail`` is the budget's threshold, or the
    model that the card lacks. ``limit`` and ``reset_ms`` as they were when it fired."""

    alert_id: str
    measure: str
    severity: str
    account_id: str
    organization_id: str | None
    scope: tuple[str, str, str | None, str | None, str | None, str | None]
    """As in ``ScopeNames``."""
    threshold: int
    limit: int | None
    reset_ms: int | None
    fired_at_ms: int


class OccurrencesRow(_ArrayRow):
    """``y|measure|scope``: how often something happened, by length of window and slot; see ``occurrences``."""

    newest_s: int
    windows: dict[int, dict[int, int]]


class ExpensesRow(_ArrayRow):
    """``x|account``: what its operations cost in the month, those that cost most; see ``expenses``."""

    month: int
    costs_micro: dict[str, int]


class ToldRow(_ArrayRow):
    """``E|entitlements``: the catalogue version as of which gates were told of all organizations."""

    catalogue_version: int


class StandingRow(_ArrayRow):
    """``d|record key``: the newest decision of a scope and limit, as published, without its sequence.

    ``behind`` is the first event since that made a block too short: it is to be published again when that matters.
    """

    decision_id: str
    scope_kind: str
    scope_id: str
    verdict: str
    limit_name: str
    limit: int
    observed: int
    until_ms: int | None
    tier: str
    plan_version: int
    decided_at_ms: int
    cause: tuple[int, int, str, str, int, int] | None
    """(offset, index, event id, organization, ts_ms, logged_at_ms) on this partition's usage topic."""
    behind: tuple[int, int, str, str, int, int] | None = None
    operation: str | None = None
    subject: str | None = None
    label: str | None = None
    category: str | None = None

    def scope(self) -> ScopeNames:
        """What it is about."""
        return ScopeNames(self.scope_kind, self.scope_id, self.operation, self.subject, self.label, self.category)


class LeaseRow(_ArrayRow):
    """``e|lease``: credits lent to a node. ``left_micro`` of them are neither used nor given back; they count against
    the limit in each of ``windows`` (months or days by index), into which their use may fall."""

    account_id: str
    limit_name: str
    scope: str
    node: str
    request_id: str
    credits_micro: int
    left_micro: int
    windows: list[int]
    window: int
    """The one that it was lent in."""
    lent_at_ms: int
    frees_at_ms: int
    """In lease time (``lease_time``)."""


class LeaseTimeRow(_ArrayRow):
    """``et|leases``: the time that leases live by, and what the nodes used that no lease held (breaches)."""

    now_ms: int = 0
    log_time_ms: int = 0
    excess_micro: int = 0
    """Used beyond what the lease still held: more than a gate's worst case."""
    late_micro: int = 0
    """Used of leases that were freed or given back before."""
    astray_micro: int = 0
    """Used in a window that the lease was not held against."""


def row_key(table: str, *identifiers: str) -> bytes:
    """The row key of ``identifiers`` in ``table``."""
    return f"{table}|{'|'.join(identifiers)}".encode()


class ChangedRows:
    """Which rows changed since the last flush; None marks a removed one.

    ``weight`` is how many more rows the long ones among them count for.
    """

    def __init__(self) -> None:
        self.rows: dict[bytes, Row | None] = {}
        self.weight = 0

    def take(self) -> list[tuple[bytes, bytes | None]]:
        """The changed rows, encoded as they are now."""
        taken = [(key, None if row is None else row.encode()) for key, row in self.rows.items()]
        self.rows.clear()
        self.weight = 0
        return taken
