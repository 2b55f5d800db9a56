"""The dashboard for everyone: audited by axe, by keyboard, on a phone, on paper, without motion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.dashboard_api import KEY, OPERATOR, serving
from tests.dashboard_world import World, scope

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
pytestmark = [pytest.mark.processes]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    world = World()
    world.block(
        "quota_clusters", scope("organization", world.organization), limit=10, observed=10, reason="It is reached."
    )
    for number, severity in enumerate(("info", "warning", "critical")):
        world.alert("rule", severity, f"Sentence {number}", "Advice", ago=timedelta(hours=number))
    world.alert("rule", "warning", "It was so", "", ago=timedelta(days=1), cleared=timedelta(hours=20))
    with serving(world) as url:
        yield url


def signed_in(page: Page, address: str, key: str = KEY) -> Page:
    page.goto(f"{address}/dashboard/")
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page.locator(".status")).to_contain_text("Live")
    expect(page.locator("canvas").first).to_be_visible()
    return page


def found_by_axe(page: Page, *, rules: str = "") -> list[tuple[str, str, list[str]]]:
    """What breaks WCAG 2.2 A or AA, or is serious by axe's own practices; of ``rules`` alone if named."""
    options = {"resultTypes": ["violations"], **({"runOnly": [rules]} if rules else {})}
    violations = Axe().run(page, options=options).response["violations"]
    return [
        (one["id"], one["impact"], [" ".join(map(str, node["target"])) for node in one["nodes"]])
        for one in violations
        if one["impact"] in ("serious", "critical") or any(tag.startswith("wcag") for tag in one["tags"])
    ]


def audit(page: Page) -> None:
    """All rules in one theme, and the colours of the other."""
    page.emulate_media(color_scheme="light")
    assert found_by_axe(page) == []
    page.emulate_media(color_scheme="dark")
    assert found_by_axe(page, rules="color-contrast") == []


def test_axe_finds_nothing_in_both_themes(chromium: Browser, address: str) -> None:
    context = chromium.new_context(viewport=DESKTOP, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{address}/dashboard/")
    audit(page)
    signed_in(page, address)
    for closed in page.locator("details > summary").all():
        closed.click()
    expect(page.get_by_role("row", name="projected")).to_be_visible()
    expect(page.get_by_text("block/quota_clusters/org_heron/u1-1")).to_be_visible()
    audit(page)
    context.close()


def test_axe_finds_nothing_on_a_phone(chromium: Browser, address: str) -> None:
    context = chromium.new_context(viewport=PHONE, reduced_motion="reduce")
    page = signed_in(context.new_page(), address)
    assert found_by_axe(page) == []
    context.close()


def test_axe_finds_nothing_on_the_operators_page(chromium: Browser, address: str) -> None:
    context = chromium.new_context(viewport=DESKTOP, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{address}/dashboard/")
    page.get_by_label("API key").fill(OPERATOR)
    page.keyboard.press("Enter")
    page.locator("summary", has_text="Workers on the usage log").click()
    expect(page.get_by_text("worker-1@10.0.4.11").first).to_be_visible()
    expect(page.get_by_text("Differs")).to_be_visible()
    audit(page)
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    context.close()


def test_nothing_is_wider_than_a_phone(chromium: Browser, address: str) -> None:
    context = chromium.new_context(viewport=PHONE)
    page = signed_in(context.new_page(), address)
    for closed in page.locator("details > summary").all():
        closed.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    context.close()


def test_the_keyboard_reaches_every_control_in_the_order_of_the_page(chromium: Browser, address: str) -> None:
    context = chromium.new_context(viewport=DESKTOP)
    page = signed_in(context.new_page(), address)
    page.reload()
    expect(page.locator("canvas").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the figures")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    seen: list[str] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()"))
        outline = page.evaluate(
            "getComputedStyle(document.activeElement.closest('label') ?? document.activeElement).outlineStyle"
        )
        assert outline == "solid", seen[-1]
        if seen[-1] == "Credits":
            break
    wanted = ["Why", "Figures as a table", "Category", "Hour", "Credits"]
    assert [name for name in seen if name in wanted] == wanted
    context.close()


def test_a_chosen_theme_stays_and_the_charts_follow_it(chromium: Browser, address: str) -> None:
    context = chromium.new_context(viewport=DESKTOP, color_scheme="light")
    page = signed_in(context.new_page(), address)
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(background) != light
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(background) != light
    context.close()


def test_paper_is_light_and_has_figures_but_no_controls(chromium: Browser, address: str) -> None:
    context = chromium.new_context(viewport=DESKTOP, color_scheme="light")
    page = signed_in(context.new_page(), address)
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    expect(page.locator("#credits-left")).to_be_visible()
    dark_signs = """canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, 40, canvas.height);
        let seen = 0;
        for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200 && data[at] < 110) seen += 1;
        return seen;
    }"""
    assert page.locator("canvas").first.evaluate(dark_signs) > 20
    context.close()


def test_nothing_moves_for_those_who_asked_for_stillness(chromium: Browser, address: str) -> None:
    context = chromium.new_context(viewport=DESKTOP, reduced_motion="reduce")
    page = signed_in(context.new_page(), address)
    moving = """() => [...document.querySelectorAll("*")].flatMap(node => ["", "::before"].map(part =>
        getComputedStyle(node, part || null))).filter(style => style.transitionDuration !== "0s" ||
        style.animationName !== "none").length"""
    assert page.evaluate(moving) == 0
    context.close()
