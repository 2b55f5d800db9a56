-- Analysts: users who may read and nothing else, of usage, decisions and alerts only the rows of one organization, within limits
-- that they cannot lift. For a ClickHouse server, run by a user with ACCESS MANAGEMENT after the migrations. The embedded
-- engine knows no users: tests have its parser read these statements, and compare their names with what there is; none of
-- them was run.

-- 1. Once. Each setting has a least as well, since 0 would mean no limit at all.
CREATE SETTINGS PROFILE IF NOT EXISTS analyst SETTINGS
    readonly = 2 CONST,
    max_execution_time = 60 MIN 1 MAX 60,
    max_memory_usage = 4000000000 MIN 1 MAX 4000000000,
    max_threads = 4 MIN 1 MAX 4,
    max_result_rows = 1000000 MIN 1 MAX 1000000,
    max_concurrent_queries_for_user = 4 CONST;

CREATE ROLE IF NOT EXISTS analyst SETTINGS PROFILE 'analyst';

CREATE QUOTA IF NOT EXISTS analyst KEYED BY user_name
    FOR INTERVAL 1 minute MAX queries = 120,
    FOR INTERVAL 1 hour MAX execution_time = 900, read_rows = 20000000000
    TO analyst;

GRANT SELECT ON sluicegate.usage_minute TO analyst;
GRANT SELECT ON sluicegate.usage_hour TO analyst;
GRANT SELECT ON sluicegate.usage_day TO analyst;
GRANT SELECT ON sluicegate.usage_organization_hour TO analyst;
GRANT SELECT ON sluicegate.usage_label TO analyst;
GRANT SELECT ON sluicegate.usage_month TO analyst;
GRANT SELECT ON sluicegate.decision TO analyst;
GRANT SELECT ON sluicegate.alert TO analyst;
GRANT SELECT ON sluicegate.usage_between TO analyst;
GRANT SELECT ON sluicegate.organization_usage_between TO analyst;
GRANT SELECT ON sluicegate.blocks_between TO analyst;
GRANT SELECT ON sluicegate.alerts_between TO analyst;

-- A row policy hides all other rows from those it names; whoever has none on a table with policies sees nothing: so does
-- an analyst without an organization, and the processes of Sluicegate get one that shows everything.
CREATE ROW POLICY IF NOT EXISTS everything ON sluicegate.* USING 1 TO ALL EXCEPT analyst;

-- 2. For each organization: another user, password and organization in place of these.
CREATE USER IF NOT EXISTS analyst_acme IDENTIFIED WITH sha256_password BY 'replace me';
GRANT analyst TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_minute USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_hour USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_day USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_organization_hour
    USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_label USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_month USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.decision
    USING organization_id = 'org_acme' TO analyst_acme;
-- What the audit found is the operators' alone.
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.alert
    USING organization_id = 'org_acme' AND kind = 'usage' TO analyst_acme;
