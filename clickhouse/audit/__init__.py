"""The continuous audit: holds ledger, rollups and ClickHouse against each other while usage flows (ADR 14)."""
