-- Whose the scope of a decision is, also where no event caused it: what an organization's analysts are shown. Of rows from
-- before it was told, as far as they say.
ALTER TABLE decision ${ON_CLUSTER}
    ADD COLUMN IF NOT EXISTS organization_id LowCardinality(String)
        DEFAULT if(scope_kind = 'key', cause_organization_id, toLowCardinality(scope_id))
        COMMENT 'of an account its own; empty for a key that nobody named';
