"""The operator's page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.dashboard_api import KEY, OPERATOR, serving
from tests.dashboard_world import World

pytestmark = [pytest.mark.processes]
SOON_MS = 10_000
"""Far below what the page waits before it asks by itself."""


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def page(chromium: Browser, world: World) -> Iterator[Page]:
    with serving(world) as address:
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        opened = context.new_page()
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(f"{address}/dashboard/")
        opened.get_by_label("API key").fill(OPERATOR)
        opened.keyboard.press("Enter")
        expect(opened.get_by_role("heading", name="Operations")).to_be_visible()
        yield opened
        context.close()
        assert [url for url in asked if OPERATOR in url or KEY in url] == []


def test_an_operator_sees_who_uses_most_what_is_blocked_and_how_far_each_part_is(page: Page) -> None:
    consumers = page.get_by_role("region", name="Top consumers")
    expect(consumers.get_by_role("row").nth(1)).to_contain_text("org_osprey")
    expect(consumers.get_by_role("row").nth(1)).to_contain_text("188,420.5")
    blocked = page.get_by_role("region", name="Blocked now")
    expect(blocked.get_by_role("row", name="org_wren")).to_contain_text("Operations that cost credits")
    expect(blocked.get_by_role("row", name="org_magpie")).to_contain_text("0:")
    path = page.get_by_role("region", name="Path of an event")
    expect(path.get_by_role("listitem").filter(has_text="Workers")).to_contain_text("2 members, stable")
    expect(path.get_by_role("listitem").filter(has_text="ClickHouse")).to_contain_text(
        "visible after 610 ms, p99 1.4 s"
    )
    expect(page.get_by_text("Decision lag, p99").locator("xpath=..")).to_contain_text("64 ms")
    expect(page.get_by_role("region", name="Audit")).to_contain_text("−1.3 credits and −2 events in 1 bucket")
    changes = page.get_by_role("region", name="Changes")
    expect(changes).to_contain_text("Goodwill after the incident")
    expect(changes).to_contain_text("priya")


def test_what_an_operator_cannot_be_told_now_is_said_until_it_can(page: Page, world: World) -> None:
    world.broken = True
    expect(page.get_by_text("History is away at the moment.")).to_be_visible()
    world.broken = False
    expect(page.get_by_text("History is away at the moment.")).to_be_hidden()


def test_an_operator_whose_credential_was_taken_back_is_signed_out(page: Page, world: World) -> None:
    world.refused = True
    expect(page.get_by_role("alert")).to_contain_text("not valid any more")


def test_a_block_is_asked_for_as_soon_as_it_is_told(page: Page, world: World) -> None:
    expect(page.locator(".status")).to_contain_text("Live")
    expect(page.get_by_role("region", name="Blocked now").get_by_role("row", name="org_wren")).to_be_visible()
    with page.expect_request(lambda request: request.url.endswith("/operator/blocks"), timeout=SOON_MS):
        world.tell("block", {})
