"""What the dashboard's tests let the API answer has the API's own forms."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from api import models
from api.routes.operator import catalogues, looks, system
from sluicegate.operator.groups import Topology
from sluicegate_schemas.bounds import Record
from tests.dashboard_operator import OPERATOR_ANSWERS
from tests.dashboard_world import World, scope

NOW = datetime.now(UTC)


def shape(value: Any) -> Any:
    """The names of an answer, without its values; of a list those of its items."""
    if isinstance(value, BaseModel):
        value = value.__dict__
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [shape(one) for one in value]
    return None


def _answers() -> list[tuple[type[BaseModel], Any]]:
    world = World()
    blocked = world.block(
        "credits", scope("organization", "org_heron"), limit=5, observed=5, reason="They are used up."
    )
    world.alert("credits_80", "warning", "80 %", "Optimize", ago=timedelta(days=1), cleared=timedelta(hours=1))
    return [
        (models.Organization, world.about()),
        (models.Usage, world.usage()),
        (models.Series, world.series(NOW - timedelta(hours=1), NOW, "minute", "category")),
        (models.Projection, world.projection()),
        (models.MonthOnPlans, world.plan_fit()),
        (models.Limits, world.limits()),
        (models.Alerts, world.alert_page()),
        (models.Why, world.why(blocked)),
        (models.Decision, blocked),
    ]


@pytest.mark.parametrize(("model", "answer"), _answers(), ids=lambda value: getattr(value, "__name__", ""))
def test_each_answer_made_up_for_the_dashboard_is_one_that_the_api_could_give(
    model: type[BaseModel], answer: Any
) -> None:
    assert shape(model.model_validate(answer)) == shape(answer)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("blocks", looks.Blocks),
        ("top-consumers", looks.Consumers),
        ("trail", looks.Trail),
        ("catalogues", catalogues.KnownCatalogues),
        ("topology", Topology),
        ("freshness", system.SystemFreshness),
        ("drifts", system.Drifts),
    ],
)
def test_each_operators_answer_made_up_for_the_dashboard_is_one_that_the_api_could_give(
    name: str, model: type[Record]
) -> None:
    answer = OPERATOR_ANSWERS[name]()
    assert shape(model.model_validate_json(json.dumps(answer))) == shape(answer)
    assert len(OPERATOR_ANSWERS) == 7
