"""``python -m stack.metrics_page`` writes docs/metrics.md from what the processes declare."""

from collections.abc import Iterable
from typing import Final

from api.metrics import FAMILIES as API
from clickhouse.audit.metrics import FAMILIES as AUDIT
from clickhouse.metrics import FAMILIES as SINK
from stack.folder import CHECKOUT
from streams.metrics import Family
from streams.worker_metrics import FAMILIES as WORKER
from webhooks.metrics import FAMILIES as WEBHOOKS

PAGE: Final = CHECKOUT / "docs" / "metrics.md"
_INTRODUCTION: Final = """# Metrics

Written by `python -m stack.metrics_page`; a test holds it against the code.

Each worker, each sink, the audit, the webhook dispatcher and the usage API answers `GET /metrics` in the text form of
Prometheus or OpenMetrics where `SLUICEGATE_HEALTH_LISTEN` says (`127.0.0.1:9464`, say; by default nowhere). `make run`
gives each process a free port and prints it. Beside these metrics there are the usual `process_…` ones. States of
health, and what to alert on: [health.md](health.md).

Label values are bounded: partitions, topics, tables, the operator's names of webhook endpoints, and words of fixed
lists. No metric names an organization, a key or an operation. Counters start at 0 with each process. Events and rejects
count once the flush with them stands, so their sum over all workers counts each event once; what a killed process
counted after its last scrape is missing in it. The books are the ledgers, not these.
"""


def page() -> str:
    """The whole page."""
    sections = (
        ("Worker", WORKER),
        ("Sink", SINK),
        ("Audit", AUDIT),
        ("Webhook dispatcher", WEBHOOKS),
        ("Usage API", API),
    )
    return "\n".join([_INTRODUCTION, *(_section(title, families) for title, families in sections)])


def _section(title: str, families: Iterable[Family]) -> str:
    rows = [f"| `{one.name}` | {one.kind} | {', '.join(one.labels) or '–'} | {one.text} |" for one in families]
    return "\n".join([f"## {title}", "", "| name | kind | labels | meaning |", "|---|---|---|---|", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
