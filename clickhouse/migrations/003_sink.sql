-- How far the sink is: all records of the partition below next_offset are in the tables. Written after their rows.
CREATE TABLE IF NOT EXISTS sink_position ${ON_CLUSTER}
(
    topic       LowCardinality(String),
    partition   UInt32,
    next_offset UInt64,
    top_epoch   UInt64 COMMENT 'highest epoch before next_offset: records with a lower one are void; 0 on other topics',
    written_at  DateTime64(3, 'UTC')
)
ENGINE = ${REPL}ReplacingMergeTree(next_offset)
ORDER BY (topic, partition);

-- How old counted usage was when it became visible here: one row for each insert and state partition.
CREATE TABLE IF NOT EXISTS sink_freshness ${ON_CLUSTER}
(
    topic             LowCardinality(String),
    partition         UInt32,
    next_offset       UInt64,
    oldest_log_at     DateTime64(3, 'UTC') COMMENT 'log time of the first flush in the insert: the one that waited longest',
    newest_log_at     DateTime64(3, 'UTC') COMMENT 'log time of the last flush in the insert',
    visible_at        DateTime64(3, 'UTC') COMMENT 'when the insert was acknowledged, by the clock of the sink'
)
ENGINE = ${REPL}MergeTree
ORDER BY visible_at
TTL toDateTime(visible_at) + INTERVAL 1 DAY;
