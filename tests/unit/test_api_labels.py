"""What each label used, as far as the workers keep books of labels: by the month."""

from __future__ import annotations

from typing import Any

from api.balances import BalanceTable
from tests.api_world import MONTH, OTHER_SECRET, World, balance_record
from tests.gating import NOW_MS

LABELS = "/v1/organizations/usage/labels"


def label(name: str, micro: int, organization: str = "org_heron", **fields: Any) -> dict[str, Any]:
    return {"kind": "label", "name": organization, "label": name, "used_micro": micro, "requests": 2} | fields


def test_labels_are_listed_the_costliest_first() -> None:
    world = World()
    world.balance(**label("pipeline=nightly", 500_000, breakdown_micro={"search": 500_000}))
    world.balance(**label("pipeline=hourly", 2_000_000))
    world.balance(**label("…", 0))  # what found no room
    world.balance(**label("of=others", 7_000_000, "org_finch"))
    body = world.get(LABELS).json()
    shown = [(one["label"], one["used"], one["requests"]) for one in body["labels"]]
    assert shown == [("pipeline=hourly", 2, 2), ("pipeline=nightly", 0.5, 2), ("…", 0, 2)]
    assert body["labels"][1]["breakdown"] == {"search": 0.5}
    assert (body["month"], body["lag_ms"]) == (MONTH, 43)
    assert [one["label"] for one in world.get(LABELS, OTHER_SECRET).json()["labels"]] == ["of=others"]
    assert world.balances.malformed == 0


def test_a_label_counts_on_and_goes_with_its_record() -> None:
    world = World()
    first, later = label("a=b", 1), label("a=b", 9, sequence={"epoch": 1, "counter": 2})
    world.balance(**first)
    world.balance(**later)
    world.balance(**first)  # repeated: older than what is there
    assert [one["used"] for one in world.get(LABELS).json()["labels"]] == [0.000009]
    world.balances.apply(balance_record(**first)[0], None, world.now_ms)
    assert world.get(LABELS).json()["labels"] == []


def test_labels_of_an_older_month_are_no_more_and_none_is_made_up() -> None:
    world = World()
    assert world.get(LABELS).json()["labels"] == []
    assert world.get(f"{LABELS}?month=2025-01").status_code == 404
    world.balances.full_month = MONTH
    assert world.get(LABELS).status_code == 503
    world.balances_from.ready = False
    assert world.get(LABELS).status_code == 503


def test_labels_go_with_their_month() -> None:
    table = BalanceTable()
    table.apply(*balance_record(**label("a=b", 1)), NOW_MS)
    table.apply(b"\xff", b"{}", NOW_MS + 70 * 86_400_000)
    assert (len(table), list(table.labels("org_heron", MONTH)), table.malformed) == (0, [], 1)
