"""The gate: answers each request at once, by its own buckets and the workers' decisions."""

from .gate import Answer, Gate, GateSettings, Knowledge, not_found

__all__ = ["Answer", "Gate", "GateSettings", "Knowledge", "not_found"]
