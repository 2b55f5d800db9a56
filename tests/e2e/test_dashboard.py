"""The dashboard in a real browser, on an API whose figures the test sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.dashboard_api import KEY, serving
from tests.dashboard_operator import Json, iso
from tests.dashboard_world import World, scope

HOSTILE = '<img src=x onerror="window.pwned=1">"\'><script>window.pwned=1</script>{{7*7}}javascript:alert(1)'
pytestmark = [pytest.mark.processes]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def address(world: World) -> Iterator[str]:
    with serving(world) as url:
        yield url


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """A tab on the dashboard, which reached nothing else and complained of nothing when the test ends."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(f"{address}/dashboard/")
    yield opened
    context.close()
    expected = ("Failed to load resource", "Applying inline style violates")
    assert [text for text in complaints if not text.startswith(expected)] == []
    assert [url for url in asked if not url.startswith(address)] == []
    assert [url for url in asked if KEY in url] == []


def sign_in(page: Page, key: str = KEY) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Credits", exact=True)).to_be_visible()
    expect(page.locator(".status")).to_contain_text("Live")


def run_out(world: World) -> Json:
    reason = "The month's credits are used up; operations that cost nothing go on."
    return world.block(
        "credits", scope("organization", world.organization), limit=100_000, observed=100_000, reason=reason
    )


def test_a_key_signs_in_stays_in_its_tab_and_is_forgotten_on_the_way_out(page: Page) -> None:
    sign_in(page)
    assert KEY not in page.url
    assert page.evaluate("Object.values(localStorage)") == []
    assert page.context.cookies() == []
    page.reload()
    expect(page.get_by_role("heading", name="Credits", exact=True)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_focused()
    assert page.evaluate("Object.values(sessionStorage)") == []


def test_an_unknown_key_is_told_so_beside_the_field(page: Page) -> None:
    page.get_by_label("API key").fill("sk_live_unknown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This key is not known, or was revoked.")
    expect(page.get_by_label("API key")).to_be_focused()


def test_a_key_that_is_revoked_meanwhile_signs_out(page: Page, world: World) -> None:
    sign_in(page)
    world.refused = True
    world.cut()
    expect(page.get_by_role("alert")).to_contain_text("not valid any more")
    assert page.evaluate("Object.values(sessionStorage)") == []


def test_credits_fall_while_they_are_spent(page: Page, world: World) -> None:
    sign_in(page)
    expect(page.locator("#credits-left")).to_have_text("38,157.7")
    world.spend(12.5)
    expect(page.locator("#credits-left")).to_have_text("38,145.2")
    world.spend(38_145.2)
    expect(page.locator("#credits-left")).to_have_text("0")


def test_a_block_appears_with_its_reason_its_event_and_until_when(page: Page, world: World) -> None:
    sign_in(page)
    expect(page.get_by_text("Nothing is blocked.")).to_be_visible()
    about = scope("operation", world.organization, operation="search.web")
    until = iso(datetime.now(UTC) + timedelta(minutes=10))
    reason = "The minute's amount of this operation is used up."
    made = world.block("operation_quantity", about, limit=10, observed=10, reason=reason, until=until)
    block = page.get_by_role("region", name="Blocked now").get_by_role("listitem")
    expect(block).to_contain_text("search.web")
    expect(block).to_contain_text(reason)
    expect(block).to_contain_text("10 of 10")
    expect(block).to_contain_text(made["cause"]["event_id"])
    expect(block.locator(".until")).to_have_text(re.compile(r"Clears in \d:\d\d"))
    before = block.locator(".until").inner_text()
    expect(block.locator(".until")).not_to_have_text(before)
    expect(page.locator("#announcer")).to_contain_text("Blocked: search.web")


def test_a_block_goes_when_its_time_is_over_and_no_other_does(page: Page, world: World) -> None:
    run_out(world)
    sign_in(page)
    about = scope("operation", world.organization, operation="search.web")
    until = iso(datetime.now(UTC) + timedelta(seconds=10))
    world.block("operation_quantity", about, limit=10, observed=10, reason="It is used up.", until=until)
    blocks = page.get_by_role("region", name="Blocked now").get_by_role("listitem")
    expect(blocks).to_have_count(2)
    world.spend(1)
    expect(page.locator("#credits-left")).to_have_text("38,156.7")
    expect(blocks).to_have_count(1)
    expect(blocks).to_contain_text("Operations that cost credits")


def test_why_it_was_blocked_is_told_to_the_keyboard_too(page: Page, world: World) -> None:
    made = run_out(world)
    sign_in(page)
    block = page.get_by_role("region", name="Blocked now").get_by_role("listitem")
    expect(block).to_contain_text("Operations that cost credits")
    expect(block).to_contain_text("with a grant, a boost or an upgrade")
    block.get_by_text("Why").focus()
    page.keyboard.press("Enter")
    expect(block).to_contain_text(made["decision_id"])
    expect(block).to_contain_text("key_heron_1")
    expect(block.get_by_role("table")).to_contain_text("search.web")


def test_an_operators_allow_ends_a_block_at_once(page: Page, world: World) -> None:
    blocked = run_out(world)
    sign_in(page)
    expect(page.get_by_text("Operations that cost credits")).to_be_visible()
    world.allow(blocked)
    expect(page.get_by_text("Nothing is blocked.")).to_be_visible()


def test_the_projection_is_drawn_with_its_band_and_told_in_a_table(page: Page) -> None:
    sign_in(page)
    section = page.get_by_role("region", name="Credits")
    expect(section).to_contain_text("About 83,900 credits by")
    expect(section).to_contain_text("80 %: 77,250 to 92,400")
    expect(section).to_contain_text("Projected from the hours of the week, seen for 56 d")
    canvas = section.locator("canvas")
    expect(canvas).to_be_visible()
    band = """canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let seen = 0;
        for (let at = 3; at < data.length; at += 4) if (data[at] > 40 && data[at] < 70) seen += 1;
        return seen;
    }"""
    assert canvas.evaluate(band) > 100
    section.get_by_text("Figures as a table").click()
    expect(section.get_by_role("row", name="projected")).to_contain_text("77,250 to 92,400")
    expect(section.get_by_role("img")).to_have_attribute("aria-label", re.compile("61,842 credits used.*83,900"))


def test_each_plan_says_what_the_month_would_have_come_to(page: Page) -> None:
    sign_in(page)
    plans = page.get_by_role("region", name="On each plan")
    expect(plans).to_contain_text("On PRO you would have paid 61,842.3 credits, been throttled at least 37 times.")
    assert plans.get_by_role("columnheader").all_text_contents() == [
        "Plan", "You would have paid", "Refused for want of credits", "Been throttled",
    ]  # fmt: skip
    pro = plans.get_by_role("row", name="PRO")
    expect(pro.get_by_role("cell")).to_have_text(["61,842.3 credits", "0", "at least 37 times"])
    expect(pro).to_contain_text("your plan")
    free = plans.get_by_role("row", name="FREE")
    expect(free.get_by_role("cell")).to_have_text(
        ["1,000 credits", re.compile("^60,842.3, from 1 .* UTC$"), "at least 4,120 times"]
    )
    expect(free.get_by_text("your plan")).to_be_hidden()
    expect(plans.get_by_role("row", name="ENTERPRISE")).to_contain_text("by agreement")


def test_a_month_in_which_nothing_was_used_is_not_compared(page: Page, world: World) -> None:
    world.used = 0
    answer = world.plan_fit()
    for plan in answer["plans"]:
        plan["requests"] = 0
    world.plan_fit = lambda: answer  # type: ignore[method-assign]  # another month
    sign_in(page)
    plans = page.get_by_role("region", name="On each plan")
    expect(plans).to_contain_text("Nothing was used yet")
    expect(plans.get_by_role("table")).to_be_hidden()


def test_usage_is_shown_by_operation_key_and_category(page: Page) -> None:
    sign_in(page)
    usage = page.get_by_role("region", name="Usage", exact=True)
    for group, name in (("Operation", "inference.llm"), ("Key", "key_heron_1"), ("Category", "Compute")):
        usage.get_by_role("radio", name=group).check()
        expect(usage.get_by_role("row", name=name)).to_be_visible()
    usage.get_by_role("radio", name="Day", exact=True).check()
    expect(usage.get_by_role("img")).to_have_attribute("aria-label", re.compile("last day"))


def test_alerts_come_live_with_their_advice_and_say_when_they_clear(page: Page, world: World) -> None:
    sign_in(page)
    alerts = page.get_by_role("region", name="Alerts")
    expect(alerts).to_contain_text("No alerts.")
    world.alert("credits_80", "warning", "80 % of the credits were used", "Optimize inference.llm", ago=timedelta(0))
    expect(alerts.get_by_role("listitem")).to_contain_text("Optimize inference.llm")
    world.tell("alert", {**world.alerts[0], "state": "cleared", "cleared_at": iso(datetime.now(UTC))})
    expect(alerts.get_by_role("listitem")).to_contain_text("Cleared")
    expect(alerts.get_by_role("listitem")).to_have_count(1)


def test_a_lost_stream_is_said_and_what_was_missed_is_caught_up(page: Page, world: World) -> None:
    sign_in(page)
    world.broken = True
    world.cut()
    expect(page.locator(".status")).to_contain_text("Stale")
    world.used += 1_000
    world.broken = False
    expect(page.locator(".status")).to_contain_text("Live")
    expect(page.locator("#credits-left")).to_have_text("37,157.7")


def test_what_cannot_be_asked_is_said_and_the_rest_goes_on(page: Page, world: World) -> None:
    world.history_is_away = True
    sign_in(page)
    expect(page.get_by_text("History is away at the moment")).to_be_visible()
    world.spend(1)
    expect(page.locator("#credits-left")).to_have_text("38,156.7")


def test_the_page_takes_few_of_the_requests_that_may_run_at_a_time(page: Page, world: World) -> None:
    world.latency_s = 0.1
    sign_in(page)
    expect(page.locator("canvas")).to_have_count(2)
    assert world.at_once_most == 2


def test_hostile_names_are_text(chromium: Browser) -> None:
    world = World(organization=HOSTILE)
    world.block(
        "operation_quantity", scope("operation", HOSTILE, operation=HOSTILE), limit=1, observed=1, reason=HOSTILE
    )
    world.alert("x", "critical", HOSTILE, HOSTILE, ago=timedelta(0))
    world.groups = ((HOSTILE, 1.0),)
    with serving(world) as url:
        context = chromium.new_context(viewport={"width": 360, "height": 740})
        page = context.new_page()
        page.on("dialog", lambda dialog: pytest.fail(f"a name opened a dialog: {dialog.message}"))
        page.goto(f"{url}/dashboard/")
        sign_in(page)
        expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
        expect(page.get_by_role("region", name="Blocked now").get_by_role("heading", level=3)).to_have_text(HOSTILE)
        expect(page.get_by_role("region", name="Alerts")).to_contain_text(HOSTILE)
        expect(page.get_by_role("region", name="Usage", exact=True).get_by_role("rowheader").first).to_have_text(
            HOSTILE
        )
        assert page.evaluate("window.pwned") is None
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        context.close()


def test_the_page_runs_under_a_policy_without_inline_script_style_or_markup(page: Page) -> None:
    response = page.request.get(page.url)
    policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    refused = page.evaluate(
        """() => new Promise(resolve => {
            addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective), { once: true });
            const script = document.createElement("style");
            script.append("body { display: none }");
            document.head.append(script);
        })"""
    )
    assert refused.startswith("style-src")


def test_events_are_the_same_however_the_stream_is_cut(page: Page) -> None:
    """The parser of the page, on every kind of line end, with the text cut in any places."""
    outcome = page.evaluate(
        r"""async () => {
            const { EventParser } = await import("./js/events.js");
            const text = ": hello\r\nevent: balance\r\nid: 7\r\ndata: {\"a\":\r\ndata:1}\r\n\r\n" +
                "data: plain\n\nretry: 250\rid: 8\revent: alert\rdata: ä €\r\r" + "event: empty\n\ndata\n\nid: 9\n\n";
            const parse = pieces => {
                const found = [];
                const parser = new EventParser(event => found.push(event));
                pieces.forEach(piece => parser.push(piece));
                return JSON.stringify([found, parser.lastId, parser.retry_ms]);
            };
            const whole = parse([text]);
            let state = 1;
            const chance = () => (state = (state * 48271) % 2147483647) / 2147483647;
            for (let round = 0; round < 2000; round += 1) {
                const pieces = [];
                for (let at = 0; at < text.length;) {
                    const length = Math.floor(chance() * 9);
                    pieces.push(text.slice(at, at + length));
                    at += length;
                }
                if (parse(pieces) !== whole) return { whole, differs: pieces };
            }
            return { whole, differs: null };
        }"""
    )
    assert outcome["differs"] is None
    assert outcome["whole"] == (
        '[[{"event":"balance","data":"{\\"a\\":\\n1}","id":"7"},{"event":"message","data":"plain","id":"7"},'
        '{"event":"alert","data":"ä €","id":"8"},{"event":"message","data":"","id":"8"}],"9",250]'
    )
