-- How far off past forecasts were: one row for each organization, origin and horizon whose outcome is known by now.
-- Its quantiles make the interval of the next forecast.
CREATE TABLE IF NOT EXISTS forecast_error ${ON_CLUSTER}
(
    horizon_days  UInt16,
    origin        DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'the forecast knew all usage before it',
    org_id        LowCardinality(String),
    history_hours UInt32 COMMENT 'how much usage the forecast had seen',
    log_ratio     Float64 COMMENT 'natural logarithm of actual by forecast'
)
ENGINE = ${REPL}ReplacingMergeTree
ORDER BY (horizon_days, origin, org_id)
TTL origin + INTERVAL 180 DAY;
