-- How far hours and days are: all minutes that were written before it are in them.
CREATE TABLE IF NOT EXISTS usage_rolled ${ON_CLUSTER}
(
    name         LowCardinality(String) COMMENT 'usage_hour',
    rolled_until DateTime('UTC')
)
ENGINE = ${REPL}ReplacingMergeTree(rolled_until)
ORDER BY name;

-- When a minute of an hour was written last: an hour that was written after it was rolled is taken from its minutes.
CREATE TABLE IF NOT EXISTS usage_written ${ON_CLUSTER}
(
    hour       DateTime('UTC'),
    written_at DateTime('UTC')
)
ENGINE = ${REPL}ReplacingMergeTree(written_at)
ORDER BY hour
TTL hour + INTERVAL 46 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_written_from_minute ${ON_CLUSTER} TO usage_written AS
SELECT toStartOfHour(minute) AS hour, max(ingested_at) AS written_at FROM usage_minute GROUP BY hour;

-- Sums of usage_hour by organization alone: what forecasts are made of, in a fraction of the rows.
CREATE TABLE IF NOT EXISTS usage_organization_hour ${ON_CLUSTER}
(
    org_id        LowCardinality(String),
    hour          DateTime('UTC') CODEC(Delta, ZSTD(1)),
    credits_micro Int64,
    version       UInt128 CODEC(ZSTD(1))
)
ENGINE = ${REPL}ReplacingMergeTree(version)
PARTITION BY toYYYYMM(hour)
ORDER BY (org_id, hour)
TTL hour + INTERVAL 25 MONTH
SETTINGS ttl_only_drop_parts = 1;

INSERT INTO usage_organization_hour (org_id, hour, credits_micro, version)
SELECT org_id, hour, sum(credits_micro), sum(version) FROM usage_hour FINAL GROUP BY org_id, hour;
