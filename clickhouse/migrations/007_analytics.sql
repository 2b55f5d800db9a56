-- What analysts select from (docs/analytics.md): sums by the hour, of a range of time that is a parameter.
CREATE VIEW IF NOT EXISTS usage_between ${ON_CLUSTER} AS
SELECT org_id, hour, api_key_id, operation, category, requests, errors, throttled, units,
       credits_micro, toDecimal64(credits_micro, 6) / 1000000 AS credits, events
FROM usage_hour FINAL
WHERE hour >= {start:DateTime('UTC')} AND hour < {end:DateTime('UTC')} AND events > 0;

CREATE VIEW IF NOT EXISTS organization_usage_between ${ON_CLUSTER} AS
SELECT hour, api_key_id, operation, category, requests, errors, throttled, units,
       credits_micro, toDecimal64(credits_micro, 6) / 1000000 AS credits, events
FROM usage_hour FINAL
WHERE org_id = {org:String} AND hour >= {start:DateTime('UTC')} AND hour < {end:DateTime('UTC')} AND events > 0;

-- One row a block: from its first decision to the allow or the time that ended it; null while it stands.
CREATE VIEW IF NOT EXISTS blocks_between ${ON_CLUSTER} AS
SELECT scope_kind, scope_id, operation, subject, label, category, limit_name, tier, decision_id, limit_value, observed,
       decided_at AS began_at,
       if(ended_by = 'allow', least(next_at, coalesce(until, next_at)), until) AS ended_at
FROM (
    SELECT *, leadInFrame(verdict) OVER following AS ended_by, leadInFrame(decided_at) OVER following AS next_at
    FROM (SELECT * FROM decision FINAL WHERE decided_at < {end:DateTime('UTC')})
    WINDOW following AS (
        PARTITION BY scope_kind, scope_id, operation, subject, label, category, limit_name
        ORDER BY version ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING))
WHERE verdict = 'block' AND decided_at >= {start:DateTime('UTC')};
