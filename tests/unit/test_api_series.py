"""Usage over time, page by page: where a page ends, how final it is, and what HTTP says of it."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cursors import CURSOR_SIGNS_MAX, cursor, place
from api.limits import HEADERS
from api.metered import OPERATIONS
from api.problems import ProblemError
from clickhouse.queries import Usage, UsagePoint
from sluicegate_schemas.bounds import CLOCK_BEHIND_MS_MAX, from_epoch_ms, to_epoch_ms
from sluicegate_schemas.outputs import LABEL_PATTERN
from tests.api_world import World
from tests.gating import NOW_MS

SERIES = "/v1/organizations/usage/series"
HOUR_MS = 3_600_000
OTHERS = "…"
"""The label of what found no room among the labels that are told apart."""


def world_with(*names: str) -> World:
    """One in which ClickHouse knows these groups of one hour, in its order."""
    world = World()
    points = [
        UsagePoint(from_epoch_ms(NOW_MS - 2 * HOUR_MS), name, Usage(3, credits_micro=100_000))
        for name in sorted(names, key=str.encode)
    ]

    def answer(*_: Any, after: tuple[int, str], rows_max: int) -> list[UsagePoint]:
        behind = [one for one in points if (int(one.at.timestamp()), one.name.encode()) > (after[0], after[1].encode())]
        return behind[:rows_max]

    world.history.says |= {
        "usage_series": answer,
        "label_series": answer,
        "reached": lambda *_: (NOW_MS - 900, NOW_MS - 200),
    }
    return world


# ---- pages ----


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_page_may_end_at_the_labels_that_are_not_told_apart(form: str) -> None:
    world = world_with("pipeline=nightly", OTHERS)
    world.history.says["label_series"] = lambda *_, **__: [
        UsagePoint(from_epoch_ms(NOW_MS - hours * HOUR_MS), OTHERS, Usage(1)) for hours in (3, 2)
    ]
    response = world.get(f"{SERIES}?group_by=label&limit=1&format={form}")
    assert (response.status_code, OTHERS in response.text) == (200, True)
    following = response.headers["link"].split(">")[0].removeprefix("<")
    assert world.get(following).status_code == 200
    asked = [options for name, _, options in world.history.asked if name == "label_series"]
    assert asked[1]["after"] == ((NOW_MS - 3 * HOUR_MS) // 1000, OTHERS)


def test_the_pages_together_are_the_whole_series() -> None:
    names = ["pipeline=nightly", "pipeline=hourly", "z=9", OTHERS]
    world = world_with(*names)
    found, path = [], f"{SERIES}?group_by=label&limit=1"
    for _ in names:
        response = world.get(path)
        found += [one["group"] for one in response.json()["points"]]
        path = response.headers.get("link", "").split(">")[0].removeprefix("<")
    assert (found, path) == (sorted(names, key=str.encode), "")


@given(st.integers(0, 2**32 - 1), st.just(OTHERS) | st.from_regex(LABEL_PATTERN, fullmatch=True))
def test_a_cursor_is_the_place_that_it_was_made_of(number: int, name: str) -> None:
    text = cursor(number, name)
    assert place(text) == (number, name)
    assert len(text) <= CURSOR_SIGNS_MAX


@given(st.text(max_size=40) | st.tuples(st.text(max_size=8), st.text(max_size=8)).map("|".join))
def test_any_other_cursor_is_refused_or_is_a_place(plain: str) -> None:
    for text in (plain, _coded(plain)):
        try:
            found = place(text)
        except ProblemError as error:
            refused = error.status
        else:
            refused = 422 if place(cursor(*found)) == found else 0
        assert refused == 422


@pytest.mark.parametrize("plain", ["²|a", "٣|a", "1|a\n", "1|……", "1|a…", "1|é", "|a", "1", "-1|a"])
def test_a_cursor_of_another_s_making_is_refused(plain: str) -> None:
    response = world_with().get(SERIES, params={"cursor": _coded(plain)})
    assert response.status_code == 422


def _coded(plain: str) -> str:
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


# ---- how final it is ----


@pytest.mark.contract("4.7")
@pytest.mark.parametrize(
    ("interval", "end", "last_cell_ends"),
    [
        ("minute", "2026-02-20T09:00:00Z", "2026-02-20T09:00:00Z"),
        ("minute", "2026-02-20T09:00:01Z", "2026-02-20T09:01:00Z"),
        ("hour", "2026-02-20T09:00:00Z", "2026-02-20T09:00:00Z"),
        ("hour", "2026-02-20T09:00:01Z", "2026-02-20T10:00:00Z"),
        ("day", "2026-02-20T09:00:01Z", "2026-02-20T10:00:00Z"),
        ("day", "2026-02-20T00:00:00Z", "2026-02-20T00:00:00Z"),
    ],
)
def test_a_series_is_final_once_no_event_of_it_can_come_any_more(interval: str, end: str, last_cell_ends: str) -> None:
    """An event is taken until seven days after it; what a series counts ends with a minute or an hour."""
    world = world_with("search.knn")
    path = f"{SERIES}?interval={interval}&from=2026-02-19T00:00:00Z&to={end}"
    last_ms = to_epoch_ms(datetime.fromisoformat(last_cell_ends)) + CLOCK_BEHIND_MS_MAX
    for as_of_ms, is_final in ((last_ms - 1, False), (last_ms, True)):
        world.history.says["reached"] = lambda *_, as_of_ms=as_of_ms: (as_of_ms, NOW_MS)
        assert world.get(path).json()["final"] is is_final
        table = world.get(f"{path}&format=csv")
        assert table.headers["x-final"] == ("true" if is_final else "false")
        assert {"x-as-of", "x-lag-ms"} <= set(table.headers)


def test_what_runs_still_or_is_to_come_is_never_final() -> None:
    world = world_with("search.knn")
    assert world.get(SERIES).json()["final"] is False
    assert world.get(f"{SERIES}?to=2026-04-01T00:00:00Z&from=2026-03-01T00:00:00Z").json()["final"] is False


def test_a_series_that_becomes_final_is_sent_again() -> None:
    world = world_with("search.knn")
    end = from_epoch_ms(NOW_MS - CLOCK_BEHIND_MS_MAX)
    path = f"{SERIES}?from={_text(end - timedelta(hours=4))}&to={_text(end)}"
    before = world.get(path)
    world.history.says["reached"] = lambda *_: (NOW_MS, NOW_MS)
    after = world.get(path, headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["final"], before.json()["final"]) == (200, True, False)


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


# ---- what HTTP says of it ----


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("application/json;q=0.1, text/csv", "text/csv"),
        ("application/json, text/csv;q=0.9", "application/json"),
        ("text/csv;q=0.5, */*;q=0.1", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0, */*", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv, application/json", "text/csv"),
        ("application/json, text/csv", "application/json"),
        ("*/*, text/csv", "text/csv"),
        ("text/html, */*;q=0.8", "application/json"),
        ("text/csvx", "application/json"),
        ("text/csv;q=2", "application/json"),
        ("text/csv;q=nan", "application/json"),
        ("text/html", "application/json"),
        ("", "application/json"),
        (",;=,q=1;;", "application/json"),
    ],
)
def test_the_form_is_the_one_that_the_caller_would_rather_have(accept: str, form: str) -> None:
    response = world_with("search.knn").get(SERIES, headers={"Accept": accept})
    assert response.headers["content-type"].partition(";")[0] == form
    assert "Accept" in response.headers["vary"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ('{tag}', 304),
        ('{strong}', 304),  # compared weakly (RFC 9110, section 13.1.2)
        ('"other", W/"a,b" ,{strong}', 304),
        ("*", 304),
        ('W/"other"', 200),
        ('"*"', 200),
        ('{bare}', 200),
        ('"x{bare}"', 200),
        ("", 200),
    ],
)  # fmt: skip
def test_a_series_is_not_sent_again_to_who_names_its_tag(fields: str, status: int) -> None:
    world = world_with("search.knn")
    tag = world.get(SERIES).headers["etag"]
    strong = tag.removeprefix("W/")
    known = fields.format(tag=tag, strong=strong, bare=strong.strip('"'))
    assert world.get(SERIES, headers={"If-None-Match": known}).status_code == status


def test_the_document_says_what_answers_carry() -> None:
    paths = world_with().app.openapi()["paths"]
    series = paths[SERIES]["get"]
    assert "If-None-Match" in [one["name"] for one in series["parameters"] if one["in"] == "header"]
    assert {"ETag", "Vary", "Cache-Control"} <= set(series["responses"]["304"]["headers"])
    assert {"ETag", "Link", "X-As-Of", "X-Lag-Ms", "X-Final"} <= set(series["responses"]["200"]["headers"])
    response = world_with(*(f"op.{number}" for number in range(3))).get(f"{SERIES}?limit=1&format=csv")
    own = {"date", "content-type", "content-length", "content-disposition", *(name.decode() for name, _ in HEADERS)}
    said = {name.lower() for name in series["responses"]["200"]["headers"]}
    assert set(response.headers) - own <= said
    for route in OPERATIONS:
        method, path = route.split(" ")
        responses = paths[path.replace(":path", "")][method.lower()]["responses"]
        assert all(set(responses[status]["headers"]) >= LIMITED for status in ("200", "429")), route
    assert "Retry-After" in series["responses"]["429"]["headers"]


LIMITED = {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Window", "RateLimit",
           "RateLimit-Policy"}  # fmt: skip
