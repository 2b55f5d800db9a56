"""The pictures of docs/dashboard.md: ``python -m tests.e2e.dashboard_pictures`` makes all of them anew.

Figures are made up (``tests.dashboard_world``); the page is the real one, in a real browser.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser import browser
from tests.dashboard_api import KEY, OPERATOR, serving
from tests.dashboard_operator import iso
from tests.dashboard_world import World, scope

IMAGES = Path(__file__).parents[2] / "docs" / "images"
BYTES_MAX = 200_000
DESK = {"width": 1280, "height": 1240}
PHONE = {"width": 390, "height": 844}


def world() -> World:
    """An organization on a busy day: a short block, a quota that is reached, and alerts."""
    made = World()
    until = iso(datetime.now(UTC) + timedelta(seconds=44))
    web = scope("operation", made.organization, operation="search.web")
    made.block(
        "operation_quantity",
        web,
        limit=10,
        observed=10,
        until=until,
        reason="The minute's amount of this operation is used up.",
    )
    made.alert(
        "compute_near_limit",
        "warning",
        "Compute requests of key_heron_1 are at 97 % of 60 a minute.",
        "Cache or batch: inference.llm and inference.embedding ask most often.",
        ago=timedelta(minutes=3),
    )
    made.alert(
        "budget",
        "warning",
        "pipeline=nightly has used 92 % of its budget of the day.",
        "Look at inference.llm, which costs it most, or raise the budget.",
        ago=timedelta(hours=1),
    )
    made.alert(
        "quota_breach",
        "critical",
        "Creating a cluster was refused: 10 of 10.",
        "Archive unused clusters, or upgrade.",
        ago=timedelta(hours=2),
    )
    made.alert(
        "sustained_throttling",
        "warning",
        "key_heron_2 was answered 429 more than 10 times in 5 minutes.",
        "",
        ago=timedelta(days=2),
        cleared=timedelta(days=2, hours=-1),
    )
    return made


def take(
    running: Browser, name: str, *, key: str, theme: str, size: dict[str, int], opened: str = "", part: str = ""
) -> Path:
    """One picture of the page's beginning, or of the ``part`` that a selector names."""
    is_phone = size is PHONE
    with serving(world()) as address:
        context = running.new_context(
            viewport=size, color_scheme=theme, device_scale_factor=2 if is_phone else 1, reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(f"{address}/dashboard/")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator(".status")).to_contain_text("Live")
        if key == KEY:
            expect(page.locator("canvas")).to_have_count(2)
            expect(page.get_by_text("80 %:")).to_be_visible()
        else:
            expect(page.get_by_text("Differs")).to_be_visible()
            expect(page.get_by_text("visible after")).to_be_visible()
        if opened:
            page.locator("summary", has_text=opened).first.click()
            expect(page.get_by_text("Its key")).to_be_visible()
        page.evaluate("document.activeElement.blur()")
        path = IMAGES / f"{name}.png"
        if part:
            box = page.locator(part).bounding_box()
            assert box is not None
            frame = {"x": 0, "y": box["y"], "width": size["width"], "height": box["height"]}
            page.screenshot(path=path, full_page=True, clip=frame)
        else:
            page.screenshot(path=path)
        context.close()
    return path


def main() -> int:
    """Makes all pictures; 1 where one is too large to be kept."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with browser() as running:
        paths = [
            take(running, "dashboard-light", key=KEY, theme="light", size=DESK),
            take(running, "dashboard-dark", key=KEY, theme="dark", size=DESK, opened="Why"),
            take(running, "dashboard-limits", key=KEY, theme="light", size=DESK, part=".columns"),
            take(running, "dashboard-phone-light", key=KEY, theme="light", size=PHONE),
            take(running, "dashboard-phone-dark", key=KEY, theme="dark", size=PHONE),
            take(running, "operations-light", key=OPERATOR, theme="light", size=DESK),
            take(running, "operations-dark", key=OPERATOR, theme="dark", size=DESK),
        ]
    for path in paths:
        sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n")
    return int(any(path.stat().st_size > BYTES_MAX for path in paths))


if __name__ == "__main__":
    sys.exit(main())
