-- Decisions on a label or on a category of an organization.
ALTER TABLE decision ${ON_CLUSTER}
    ADD COLUMN IF NOT EXISTS label    String COMMENT 'name=value; empty unless the scope is a label' AFTER subject,
    ADD COLUMN IF NOT EXISTS category LowCardinality(String) COMMENT 'empty unless the scope is a category' AFTER label;
