-- Every alert, as it was told: one row where it fired and one where it cleared, whatever was told twice.
CREATE TABLE IF NOT EXISTS alert ${ON_CLUSTER}
(
    alert_id        String CODEC(ZSTD(1)),
    state           LowCardinality(String) COMMENT 'fired or cleared',
    kind            LowCardinality(String) COMMENT 'usage, or audit_drift',
    rule            LowCardinality(String) COMMENT 'of the catalogue; for a drift the pair of books that differ',
    severity        LowCardinality(String) COMMENT 'empty for a drift',
    account_id      LowCardinality(String) COMMENT 'empty for a drift',
    organization_id LowCardinality(String) COMMENT 'of an account its own; empty for a drift of all together',
    scope_kind      LowCardinality(String) COMMENT 'as in decision; empty for a drift',
    scope_id        String,
    operation       LowCardinality(String),
    subject         String,
    label           String,
    category        LowCardinality(String),
    threshold       UInt64,
    observed        UInt64,
    limit_value     Nullable(UInt64) COMMENT 'null where the rule counts only',
    unit            LowCardinality(String) COMMENT 'of the three: credits_micro, requests, resources, events; buckets for a drift',
    reset_at        Nullable(DateTime64(3, 'UTC')) COMMENT 'when the limit begins anew',
    plan_version    UInt64,
    cause_event_id  String COMMENT 'empty where no event did it',
    sentence        String CODEC(ZSTD(1)),
    advice          String CODEC(ZSTD(1)) COMMENT 'empty where it cleared',
    fired_at        DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    at              DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when this was told; fired_at where it fired'
)
ENGINE = ${REPL}ReplacingMergeTree(at)
PARTITION BY toYYYYMM(fired_at)
ORDER BY (organization_id, alert_id, state)
TTL toDateTime(fired_at) + INTERVAL 25 MONTH
SETTINGS ttl_only_drop_parts = 1;

-- One row an alert that fired in the time: cleared_at is null while it stands.
CREATE VIEW IF NOT EXISTS alerts_between ${ON_CLUSTER} AS
SELECT kind, rule, severity, account_id, organization_id, scope_kind, scope_id, operation, subject, label, category,
       threshold, observed, limit_value, unit, alert_id, sentence, advice, fired_at, cleared.cleared_at AS cleared_at
FROM (SELECT * FROM alert FINAL
      WHERE state = 'fired' AND fired_at >= {start:DateTime('UTC')} AND fired_at < {end:DateTime('UTC')}) AS fired
LEFT JOIN (SELECT organization_id, alert_id, toNullable(at) AS cleared_at FROM alert FINAL
           WHERE state = 'cleared' AND fired_at >= {start:DateTime('UTC')} AND fired_at < {end:DateTime('UTC')}) AS cleared
USING (organization_id, alert_id);
