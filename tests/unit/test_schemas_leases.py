"""Lease requests, and the leases that events name, keep their bounds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sluicegate_schemas.bounds import CREDITS_MICRO_MAX, LEASES_MAX, LEASES_RETURNED_MAX
from sluicegate_schemas.decode import Malformed, check_numbers, decode_usage
from sluicegate_schemas.envelope import DECODE_LEASE_REQUEST, ENCODE
from tests.domain_world import usage
from tests.leases import lease_request

REQUEST = DECODE_LEASE_REQUEST(lease_request(60, needed_micro=40, least_micro=20, returned=("0-1",)))


def field_of(**changes: Any) -> str | None:
    with pytest.raises(Malformed) as refused:
        decode_usage(ENCODE(msgspec.structs.replace(REQUEST, **changes)))
    return refused.value.field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"request_id": "a b"}, "request_id"),
        ({"boot_id": ""}, "boot_id"),
        ({"node": "a|b"}, "node"),
        ({"account_id": "acme"}, "account_id"),
        ({"org_id": "org_" + "x" * 61}, "org_id"),
        ({"limit_name": "concurrency"}, "limit_name"),
        ({"scope": "operation:org_a:search.web"}, "scope"),
        ({"scope": "account:org_a\n"}, "scope"),
        ({"wanted_micro": -1}, "wanted_micro"),
        ({"wanted_micro": CREDITS_MICRO_MAX + 1}, "wanted_micro"),
        ({"needed_micro": 61}, "needed_micro"),
        ({"least_micro": -1}, "least_micro"),
        ({"returned": [("0-1", 0)] * (LEASES_RETURNED_MAX + 1)}, "returned"),
        ({"returned": [("", 0)]}, "returned[...]"),
        ({"returned": [("0-1", -1)]}, "returned[...]"),
    ],
)
def test_a_request_outside_its_bounds_is_refused_by_its_field(changes: dict[str, Any], field: str) -> None:
    assert field_of(**changes) == field


def test_a_request_of_an_older_node_says_neither_what_is_needed_nor_the_least() -> None:
    older = ENCODE(msgspec.msgpack.decode(ENCODE(REQUEST))[:-2])
    assert decode_usage(older) == msgspec.structs.replace(REQUEST, needed_micro=0, least_micro=0)


@pytest.mark.parametrize("leases", [[f"0-{n}" for n in range(LEASES_MAX + 1)], ["a b"], ["0-1", "0-1"], [""]])
def test_an_event_names_few_leases_each_once(leases: list[str]) -> None:
    event = usage()
    event.leases = leases
    with pytest.raises(Malformed, match="leases"):
        check_numbers(event)
