"""A catalogue file becomes a catalogue, and what is wrong in it is named with its line."""

from pathlib import Path
from typing import get_args

import pytest

from sluicegate_schemas.catalogue import Catalogue
from sluicegate_schemas.files import FILE_BYTES_MAX, FileError, load_catalogue
from sluicegate_schemas.limits import CategoryShares, RateLimits
from sluicegate_schemas.toml_lines import line_of
from sluicegate_schemas.usage import ResourceName

DEFAULT = (Path(__file__).parents[2] / "catalogue" / "default.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(DEFAULT)


@pytest.mark.contract("1.7", "1.10")
@pytest.mark.parametrize(
    ("tier", "credits_per_month", "second", "burst", "minute"),
    [("free", 1_000, 10, 20, 60), ("pro", 100_000, 100, 200, 600), ("team", 1_000_000, 300, 600, 3_000)],
)
def test_the_default_plans_are_those_of_the_requirements(
    catalogue: Catalogue, tier: str, credits_per_month: int, second: int, burst: int, minute: int
) -> None:
    plan = catalogue.plans[tier]  # type: ignore[index]  # the literals above are tiers
    assert plan.credits_micro_per_month == credits_per_month * 1_000_000
    assert plan.rates == RateLimits(requests_per_second=second, burst=burst, requests_per_minute=minute)


@pytest.mark.contract("1.7", "1.15")
def test_the_enterprise_plan_is_custom(catalogue: Catalogue) -> None:
    plan = catalogue.plans["enterprise"]
    assert plan.credits_micro_per_month is None
    assert plan.rates is None
    assert plan.concurrency is None
    assert plan.objects_per_batch is None
    assert set(plan.quotas.values()) == {None}


@pytest.mark.contract("1.11", "1.12")
@pytest.mark.parametrize(
    ("tier", "concurrency", "objects_per_batch", "quotas"),
    [
        ("free", 5, 100, (1, 5, 5, 10_000, 3, 2, 1, 2)),
        ("pro", 50, 10_000, (10, 50, 50, 1_000_000, 50, 20, 10, 10)),
        ("team", 150, 50_000, (50, 250, 250, 10_000_000, 250, 100, 50, 50)),
    ],
)
def test_the_default_quotas_and_shares_are_those_of_the_requirements(
    catalogue: Catalogue, tier: str, concurrency: int, objects_per_batch: int, quotas: tuple[int, ...]
) -> None:
    plan = catalogue.plans[tier]  # type: ignore[index]  # the literals above are tiers
    assert (plan.concurrency, plan.objects_per_batch) == (concurrency, objects_per_batch)
    assert plan.quotas == dict(zip(get_args(ResourceName), quotas, strict=True))
    assert plan.shares == CategoryShares(metadata=100, data=80, search=50, upload=25, compute=10)


def test_the_default_operation_limits_are_the_five_of_the_requirements(catalogue: Catalogue) -> None:
    assert [(one.kind, one.operation) for one in catalogue.operation_limits] == [
        ("once_per_subject", "batch.submit"),
        ("concurrent_per_subject", "cluster.execute"),
        ("quantity_per_minute", "search.web"),
        ("quantity_per_minute", "inference.llm"),
        ("results_max", "documents.list"),
    ]


def test_each_resource_is_made_by_an_operation_that_its_quota_closes(catalogue: Catalogue) -> None:
    creating = {entry.creates: name for name, entry in catalogue.operations.items() if entry.creates is not None}
    assert creating == {resource: f"{resource}.create" for resource in get_args(ResourceName)}


def test_every_alert_of_the_requirements_is_a_rule(catalogue: Catalogue) -> None:
    rules = {(rule.measure, rule.compare, rule.threshold, rule.severity) for rule in catalogue.alert_rules}
    assert rules >= {
        ("credits_used_percent", "at_least", 80, "warning"),
        ("credits_used_percent", "at_least", 95, "critical"),
        ("credits_used_percent", "at_least", 100, "critical"),
        ("minute_utilization_percent", "at_least", 80, "warning"),
        ("concurrency_percent", "at_least", 80, "warning"),
        ("credits_left_percent", "below", 5, "critical"),
        ("runs_out_before_reset", "at_least", 1, "critical"),
        ("throttled", "above", 10, "critical"),
        ("creations_refused", "at_least", 1, "warning"),
        ("throttled", "above", 3, "info"),
        ("credits_used_percent", "above", 90, "info"),
    }
    assert all(rule.advice and rule.rearm_points == 5 for rule in catalogue.alert_rules)


@pytest.mark.parametrize(
    ("old", "new", "field", "detail"),
    [
        ('credits = "0.1"', "credits = 0.1", 'operations."search.knn".price.credits', 'write "0.1", in quotes'),
        ('credits = "0.1"', 'credits = "0.1234567"', 'operations."search.knn".price.credits', "six places"),
        ('credits = "0.1"', "credits = -1", 'operations."search.knn".price.credits', "between 0 and"),
        ('credits = "0.1"', "credits = true", 'operations."search.knn".price.credits', "number of credits"),
        ('credits = "0.1"', "credits = nan", 'operations."search.knn".price.credits', "must not be"),
        ('credits = "0.1"', "credits_micro = 5", 'operations."search.knn".price.credits_micro', "in credits here"),
        ("per = 60_000", "per = 0", 'operations."video.process".price.per', "greater than or equal to 1"),
        ("{ up_to = 10_000,", "{ up_to = 10,", 'operations."cluster.execute".price.steps', "rise by up_to"),
        ("credits = 250 }", "credits = 0.5 }", 'operations."cluster.execute".price.steps[2].credits', "in quotes"),
        ('"text-base" = 2', '"text-base" = -2', 'operations."inference.embedding".price.models.text-base', "between"),
        ('category = "upload"\n', "", 'operations."upload.file"', "needs a category"),
        ("\nversion = 1", "\nversion = true", "version", "valid integer"),
        ("[plans.team]", "[plans.teem]", "plans.teem", "'free', 'pro', 'team' or 'enterprise'"),
        ("effective_at = 2020-01-01T00:00:00Z", "effective_at = 2020-01-01", "effective_at", "without a zone"),
        ("burst = 200,", "bursts = 200,", "plans.pro.rates.burst", "required"),
        ('[plans.enterprise]\ncredits_per_month = "custom"', "[plans.enterprise]",
         "plans.enterprise.credits_per_month", "required"),
        ('"objects.create"', '"documents.create"', "free_operations.data", "given elsewhere"),
        ("\nmetadata = [", "\nmeta = [", "free_operations.meta", "must be a category"),
        ("\ndocuments = [", "\ndocument = [", "creates.document", "must be a resource"),
        ('\nbuckets = ["buckets.create"]', '\nbuckets = ["bucket.create"]', "creates.buckets", "is no operation"),
        ("concurrency = 150", "concurrency = 0", "plans.team.concurrency", "greater than or equal to 1"),
        ("concurrency = 150", 'concurrency = "none"', "plans.team.concurrency", "valid integer"),
        ("documents = 10_000\n", "documents = -1\n", "plans.free.quotas.documents", "greater than or equal to 0"),
        ("quotas = \"unlimited\"", "quotas = \"all\"", "plans.enterprise.quotas", "be an object"),
        ("dedicated_compute = true", 'dedicated_compute = "no no"',
         "plans.enterprise.features.dedicated_compute", ", or: "),
        ("seconds = 60", "seconds = 0", "operation_limits[0].seconds", "greater than or equal to 1"),
        ("limit = 100_000", "limits = 100_000", "operation_limits[3].limit", "required"),
        ("window_s = 300", "days_left_min = 3", "alert_rules[7]", "window_s goes with"),
        ("credits_reserved = 600", "credits_reserved = 0.5", 'operations."video.process".credits_reserved',
         "in quotes"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_catalogue_is_named_with_its_line(old: str, new: str, field: str, detail: str) -> None:
    assert DEFAULT.count(old) == 1
    broken = DEFAULT.replace(old, new)
    with pytest.raises(FileError) as refusal:
        load_catalogue(broken)
    assert refusal.value.field == field
    assert detail in refusal.value.detail
    assert refusal.value.line is not None
    near = "\n".join(broken.splitlines()[refusal.value.line - 1 :][:6])
    assert new.strip().split(" = ")[0].split("\n")[0] in near or field.split(".")[-1] in near


def test_a_file_that_is_no_toml_is_named_with_its_line() -> None:
    with pytest.raises(FileError, match=r"^line 2: is not valid TOML") as refusal:
        load_catalogue("version = 1\neffective_at =\n")
    assert refusal.value.line == 2


@pytest.mark.parametrize("text", ["x = " + "[" * 5000 + "]" * 5000, "#" * (FILE_BYTES_MAX + 1)])
def test_a_file_that_is_too_deep_or_too_large_is_refused(text: str) -> None:
    with pytest.raises(FileError):
        load_catalogue(text)


def test_a_value_is_found_on_its_line_in_nested_tables_and_arrays() -> None:
    text = '[a]\n"b.c" = 1\n[[d]]\n[[d]]\nx = 1\n[[d.e]]\n[[d.e]]\ny.z = 1\n'
    assert line_of(text, ("a", "b.c")) == 2
    assert line_of(text, ("d", 1, "x")) == 5
    assert line_of(text, ("d", 1, "e", 1, "y", "z")) == 8
    assert line_of(text, ("d", 1, "e", 0, "missing")) == 6
    assert line_of(text, ("nowhere",)) is None
