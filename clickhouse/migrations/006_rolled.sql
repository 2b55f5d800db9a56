-- How far hours and days are: all minutes that were written before it are in them. A minute that was written later is
-- found by the index, so that a question may take hours for what is rolled, and minutes for the rest.
CREATE TABLE IF NOT EXISTS usage_rolled ${ON_CLUSTER}
(
    name         LowCardinality(String) COMMENT 'usage_hour',
    rolled_until DateTime('UTC')
)
ENGINE = ${REPL}ReplacingMergeTree(rolled_until)
ORDER BY name;

ALTER TABLE usage_minute ${ON_CLUSTER}
    ADD INDEX IF NOT EXISTS written ingested_at TYPE minmax GRANULARITY 1;
