"""The ClickHouse engine (chDB) owned by one process that speaks ClickHouse's HTTP protocol.

``clickhouse-connect``'s ordinary HTTP client works with it as with a server: queries, bound parameters (also
form-encoded), inserts in any input format, compressed bodies, settings, databases, sessions, error codes and headers.
Not offered: clusters, users beyond the one, TLS, compressed answers, progress headers, external data; the last is
refused, the others are not needed on one machine. Run as ``python -m stack.clickhouse_http``.
"""
