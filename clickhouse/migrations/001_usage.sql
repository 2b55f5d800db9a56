-- Usage by minute, as the workers counted it; exact when read with FINAL.
-- One row is one cell of one state partition: only its source partition writes it, and its version only grows, so
-- that a repeated insert changes nothing. The category is no part of the key: a new rate card may change it.
CREATE TABLE IF NOT EXISTS usage_minute ${ON_CLUSTER}
(
    org_id        LowCardinality(String),
    minute        DateTime('UTC') CODEC(Delta, ZSTD(1)),
    api_key_id    LowCardinality(String) COMMENT 'empty for storage samples',
    operation     LowCardinality(String),
    source        LowCardinality(String) COMMENT 'state topic/partition',
    chunk         UInt64 CODEC(Delta, ZSTD(1)) COMMENT 'source offset that made the cell: a cell made anew is another row',
    category      LowCardinality(String) COMMENT 'empty for storage, unrated for an operation that no rate card knows',
    requests      UInt64,
    errors        UInt64,
    throttled     UInt64,
    units         UInt64,
    credits_micro Int64,
    events        UInt64,
    rated_version UInt64 COMMENT 'catalogue version that rated the newest event; 0: none',
    version       UInt128 CODEC(ZSTD(1)) COMMENT 'epoch number of the writer << 64 | offset of the state record',
    ingested_at   DateTime('UTC') DEFAULT now('UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ${REPL}ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(minute)
ORDER BY (org_id, minute, api_key_id, operation, source, chunk)
TTL minute + INTERVAL 45 DAY
SETTINGS ttl_only_drop_parts = 1, min_age_to_force_merge_seconds = 3600, min_age_to_force_merge_on_partition_only = 1;

-- Sums of usage_minute, kept longer. The version of a sum is the sum of the versions: it grows with any row that it is
-- made of, so that rolling an hour again, late or twice, or when its minutes have expired, never brings back less.
CREATE TABLE IF NOT EXISTS usage_hour ${ON_CLUSTER}
(
    org_id        LowCardinality(String),
    hour          DateTime('UTC') CODEC(Delta, ZSTD(1)),
    api_key_id    LowCardinality(String),
    operation     LowCardinality(String),
    category      LowCardinality(String) COMMENT 'of the newest minute',
    requests      UInt64,
    errors        UInt64,
    throttled     UInt64,
    units         UInt64,
    credits_micro Int64,
    events        UInt64,
    version       UInt128 CODEC(ZSTD(1))
)
ENGINE = ${REPL}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(hour)
ORDER BY (org_id, hour, api_key_id, operation)
TTL hour + INTERVAL 25 MONTH
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS usage_day ${ON_CLUSTER}
(
    org_id        LowCardinality(String),
    day           DateTime('UTC') CODEC(Delta, ZSTD(1)),
    api_key_id    LowCardinality(String),
    operation     LowCardinality(String),
    category      LowCardinality(String) COMMENT 'of the newest hour',
    requests      UInt64,
    errors        UInt64,
    throttled     UInt64,
    units         UInt64,
    credits_micro Int64,
    events        UInt64,
    version       UInt128 CODEC(ZSTD(1))
)
ENGINE = ${REPL}ReplacingMergeTree(version)
PARTITION BY toYear(day)
ORDER BY (org_id, day, api_key_id, operation);
