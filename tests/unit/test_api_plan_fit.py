"""What a month would have come to on each plan, as an operator asks the API for it."""

from __future__ import annotations

import json

from sluicegate_schemas.plan_fit import PlanFit, PlanFits
from tests.api_app import READER, ApiApp
from tests.gating import NOW


async def test_an_operator_sees_what_a_month_would_have_come_to_on_each_plan() -> None:
    api, path = ApiApp(), "/v1/operator/organizations/{}/plan-fit"
    fit = PlanFit(tier="pro", used_micro=7, total_micro=5, beyond_micro=2, ran_out_at=NOW, requests=3, throttled=1)
    api.history.says["month_fits"] = lambda name, card, month: PlanFits(
        organization_id=name, month=month, plan_version=card.version, fits=(fit,)
    )
    async with api.client(READER) as reader:
        said = (await reader.get(path.format("org_heron"), params={"month": "2026-02"})).json()
        assert (said["organization_id"], said["month"], said["plan_version"]) == ("org_heron", "2026-02", 1)
        assert [PlanFit.model_validate_json(json.dumps(one)) for one in said["fits"]] == [fit]
        assert (await reader.get(path.format("org_heron"), params={"month": "2026-13"})).status_code == 422
        assert (await reader.get(path.format("org_none"))).status_code == 404
