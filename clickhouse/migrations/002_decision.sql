-- Every verdict on a scope, as the workers published it; one row a decision, whatever was sent twice.
CREATE TABLE IF NOT EXISTS decision ${ON_CLUSTER}
(
    decision_id            String,
    scope_kind             LowCardinality(String) COMMENT 'key, organization, account or operation',
    scope_id               String,
    operation              LowCardinality(String) COMMENT 'empty unless the scope is an operation',
    subject                String COMMENT 'the batch or cluster that the limit is about; may be empty',
    limit_name             LowCardinality(String),
    verdict                LowCardinality(String) COMMENT 'block or allow',
    limit_value            UInt64 COMMENT 'requests, or micro-credits for limit_name credits',
    observed               UInt64 COMMENT 'in the unit of limit_value',
    until                  Nullable(DateTime64(3, 'UTC')) COMMENT 'clears by itself; null: not by time',
    tier                   LowCardinality(String),
    plan_version           UInt64,
    cause_topic            LowCardinality(String) COMMENT 'the event that made it; empty where no event did',
    cause_partition        UInt32,
    cause_offset           UInt64,
    cause_index            UInt32,
    cause_event_id         String,
    cause_organization_id  LowCardinality(String),
    cause_ts               Nullable(DateTime64(3, 'UTC')),
    cause_logged_at        Nullable(DateTime64(3, 'UTC')),
    decided_at             DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    version                UInt128 CODEC(ZSTD(1)) COMMENT 'sequence: epoch << 64 | counter; the highest of a scope and limit stands'
)
ENGINE = ${REPL}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(decided_at)
ORDER BY (scope_id, scope_kind, limit_name, operation, subject, decision_id)
TTL toDateTime(decided_at) + INTERVAL 25 MONTH
SETTINGS ttl_only_drop_parts = 1;
