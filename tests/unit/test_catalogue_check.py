"""A catalogue file is looked at before it is published: what may not be meant is said with its line."""

from pathlib import Path

import pytest

from sluicegate.operator.catalogue_check import check_catalogue

DEFAULT = (Path(__file__).parents[2] / "catalogue" / "default.toml").read_text(encoding="utf-8")


def test_the_default_catalogue_leaves_nothing_to_say() -> None:
    assert check_catalogue(DEFAULT)[1] == []


@pytest.mark.parametrize(
    ("old", "new", "field", "sentence"),
    [
        ("concurrency = 150\n", "", "plans.team", "concurrency is not given"),
        ('quotas = "unlimited"\n', "", "plans.enterprise", "quotas is not given"),
        ("clusters = 50\n", "", "plans.team.quotas", "clusters not named"),
        ("burst = 20,", "burst = 5,", "plans.free.rates", "no whole second"),
        ("concurrency = 150", "concurrency = 49", "plans.team.concurrency", "is less than pro has"),
        ("documents = 10_000_000", "documents = 10", "plans.team.quotas.documents", "is less than pro has"),
        ("requests_per_minute = 3_000", "requests_per_minute = 300", "plans.team.rates.requests_per_minute", "is less"),
        ("credits_reserved = 600 ", "# ", 'operations."video.process"', "has no largest price"),
        ('api_keys = ["api_keys.create"]', "", "plans.free.quotas.api_keys", "never closes"),
        (
            'operation = "batch.submit"',
            'operation = "batch.submitted"',
            "operation_limits[0].operation",
            "no operation",
        ),
    ],
)
def test_what_may_not_be_meant_is_remarked(old: str, new: str, field: str, sentence: str) -> None:
    assert DEFAULT.count(old) == 1
    _, (remark,) = check_catalogue(DEFAULT.replace(old, new))
    assert remark.field == field
    assert sentence in remark.sentence
    assert remark.line is not None


def test_a_catalogue_without_alert_rules_is_remarked() -> None:
    _, (remark,) = check_catalogue(DEFAULT[: DEFAULT.index("[[alert_rules]]")])
    assert remark.field == "alert_rules"
