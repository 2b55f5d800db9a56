-- What the requests with a label had used so far in a month, as of the last flush of each hour: the ledgers of labels, which
-- only grow. What an hour used is what its row holds beyond the one before it, of the same label and month.
CREATE TABLE IF NOT EXISTS usage_label ${ON_CLUSTER}
(
    org_id        LowCardinality(String),
    label         String CODEC(ZSTD(1)) COMMENT 'name=value; … is all that found no room',
    month         UInt32 COMMENT 'of the ledger, as 202603',
    hour          DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'in which the broker logged the flush',
    requests      UInt64,
    credits_micro Int64,
    version       UInt128 CODEC(ZSTD(1)) COMMENT 'epoch number of the writer << 64 | offset of the state record'
)
ENGINE = ${REPL}ReplacingMergeTree(version)
PARTITION BY month
ORDER BY (org_id, label, month, hour)
TTL hour + INTERVAL 25 MONTH
SETTINGS ttl_only_drop_parts = 1;
