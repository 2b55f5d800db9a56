-- A user who may read and nothing else, and of usage and decisions only the rows of one organization. For a ClickHouse
-- server: the embedded engine knows no users, so this file is not run by any test of this repository. Replace the
-- password, the organization and the database.
CREATE USER IF NOT EXISTS analyst_acme IDENTIFIED WITH sha256_password BY 'replace me'
    SETTINGS readonly = 2, max_execution_time = 60, max_memory_usage = 4000000000;

GRANT SELECT ON sluicegate.usage_minute TO analyst_acme;
GRANT SELECT ON sluicegate.usage_hour TO analyst_acme;
GRANT SELECT ON sluicegate.usage_day TO analyst_acme;
GRANT SELECT ON sluicegate.usage_organization_hour TO analyst_acme;
GRANT SELECT ON sluicegate.decision TO analyst_acme;
GRANT SELECT ON sluicegate.usage_between TO analyst_acme;
GRANT SELECT ON sluicegate.organization_usage_between TO analyst_acme;
GRANT SELECT ON sluicegate.blocks_between TO analyst_acme;

-- A row policy hides all other rows from those it names; whoever has none on a table with policies sees nothing, so the
-- processes of Sluicegate get one that shows everything.
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_minute USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_hour USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_day USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.usage_organization_hour
    USING org_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS analyst_acme ON sluicegate.decision
    USING scope_id = 'org_acme' OR cause_organization_id = 'org_acme' TO analyst_acme;
CREATE ROW POLICY IF NOT EXISTS everything ON sluicegate.* USING 1 TO ALL EXCEPT analyst_acme;
