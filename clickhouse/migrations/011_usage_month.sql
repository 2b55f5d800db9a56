-- What a month came to, once it took no more late events: the last balance of each organization, key and account, kept.
CREATE TABLE IF NOT EXISTS usage_month ${ON_CLUSTER}
(
    org_id            LowCardinality(String) COMMENT 'whose it is; of an account its own organization',
    kind              LowCardinality(String) COMMENT 'organization, key or account',
    id                String,
    month             LowCardinality(String) COMMENT 'as 2026-03',
    account_id        LowCardinality(String),
    total_micro       Nullable(Int64) COMMENT 'null: no limit, or a key',
    used_micro        Int64 COMMENT 'with what came late for months that were over',
    breakdown_micro   Map(LowCardinality(String), Int64) COMMENT 'by group; sums to used_micro',
    corrections_micro Map(LowCardinality(String), Int64) COMMENT 'how much of used_micro is of which month that was over',
    granted_micro     Int64 COMMENT 'how much of the total was granted',
    overage_micro     Int64,
    requests          UInt64,
    served_requests   UInt64 COMMENT 'of an organization: those that were not throttled',
    failures          UInt64 COMMENT 'of them answered 5xx',
    p50_ms            UInt64,
    p99_ms            UInt64,
    as_of             DateTime64(3, 'UTC') COMMENT 'log time that it counts up to',
    told_at           DateTime64(3, 'UTC') COMMENT 'when it was published',
    version           UInt128 CODEC(ZSTD(1)) COMMENT 'sequence of the balance: epoch << 64 | counter'
)
ENGINE = ${REPL}ReplacingMergeTree(version)
PARTITION BY substring(month, 1, 4)
ORDER BY (org_id, kind, id, month);
