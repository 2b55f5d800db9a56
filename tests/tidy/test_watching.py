"""The dashboards and rules for operators know the metrics that the processes have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.metrics import FAMILIES as API
from clickhouse.audit.metrics import FAMILIES as AUDIT
from clickhouse.metrics import FAMILIES as SINK
from streams.engine.figures import BOUNDS_S
from streams.worker_metrics import FAMILIES as WORKER
from webhooks.metrics import FAMILIES as WEBHOOKS

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text("utf-8"))
SCRAPES = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
FAMILY = {family.name: family for family in (*WORKER, *SINK, *AUDIT, *WEBHOOKS, *API)}
PARTS = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
LABELS = {name + part: {*family.labels, "le"} for name, family in FAMILY.items() for part in PARTS[family.kind]}
LABELS["up"] = set()
SCRAPED = {"job", "instance"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def panels() -> list[tuple[str, str, str]]:
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            assert panel["datasource"]["uid"] == "prometheus"
            found += [(panel["title"], one["expr"], one["legendFormat"]) for one in panel["targets"]]
    return found


EXPRESSIONS = [
    *((rule["alert"], rule["expr"], rule["annotations"]["summary"]) for rule in rules()),
    *panels(),
]


@pytest.mark.parametrize(("name", "expression", "text"), EXPRESSIONS)
def test_every_metric_and_label_that_is_asked_for_exists(name: str, expression: str, text: str) -> None:
    metrics = set(re.findall(r"\b(?:sluicegate_[a-z0-9_]+|up)\b", expression))
    assert metrics, name
    assert metrics <= LABELS.keys(), name
    known = set.union(*(LABELS[metric] for metric in metrics)) | SCRAPED
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
    assert grouped <= known, name
    shown = set(re.findall(r"\{\{\s*(?:\$labels\.)?([a-z]+)\s*\}\}", text))
    assert shown <= (known if metrics == {"up"} else grouped), name
    assert expression.count("(") == expression.count(")")


def test_counters_are_asked_for_by_their_growth_and_gauges_are_not() -> None:
    for name, expression, _ in EXPRESSIONS:
        for metric, family in FAMILY.items():
            if re.search(rf"\b{metric}\b", expression):
                grows = re.search(rf"(rate|increase)\({metric}(\{{[^}}]*\}})?\[", expression) is not None
                assert grows == (family.kind == "counter"), name


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]


def test_all_processes_of_the_composition_with_metrics_are_scraped() -> None:
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text("utf-8"))["services"]
    watched = {name for name, one in services.items() if "SLUICEGATE_HEALTH_LISTEN" in one["environment"]}
    assert {job["job_name"] for job in SCRAPES["scrape_configs"]} == watched
    for job in SCRAPES["scrape_configs"]:
        assert job["dns_sd_configs"] == [{"names": [job["job_name"]], "type": "A", "port": 9464}]


def test_grafana_reads_the_prometheus_and_the_dashboards_of_the_composition() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards/sluicegate.yml").read_text("utf-8"))["providers"]
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text("utf-8"))["services"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    uids = [json.loads(path.read_text("utf-8"))["uid"] for path in DASHBOARDS]
    assert uids == [path.stem for path in DASHBOARDS]


@pytest.mark.parametrize(("name", "expression", "text"), EXPRESSIONS)
def test_a_bound_that_is_asked_for_is_one_that_is_counted(name: str, expression: str, text: str) -> None:
    assert {float(bound) for bound in re.findall(r'le="([^"]+)"', expression)} <= set(BOUNDS_S), name


def test_the_service_levels_show_availability_and_latency() -> None:
    (service,) = [json.loads(path.read_text("utf-8")) for path in DASHBOARDS if path.stem == "sluicegate-service"]
    shown = [(panel["title"], target["expr"]) for panel in service["panels"] for target in panel["targets"]]
    assert sum("[30d:1m]" in expression for _, expression in shown) == 4
    quantiles = {expression.split(",")[0] for _, expression in shown if "histogram_quantile" in expression}
    assert quantiles == {"histogram_quantile(0.5", "histogram_quantile(0.99"}
