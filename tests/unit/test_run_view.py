"""What a person sees of a run: credits left, decisions with their age, refusals."""

import io
from datetime import UTC, datetime

from rich.console import Console

from sluicegate_schemas.outputs import Balance, Decision, Position, Scope, Sequence
from stack.receiver import Received
from stack.view import Moment, Rate, View
from stack.watch import SeenDecision, Sight

NOW = datetime(2026, 2, 10, 12, 0, tzinfo=UTC)
BALANCE = Balance(
    kind="organization",
    id="org_wren",
    account_id="org_wren",
    organization_id="org_wren",
    month="2026-02",
    total_micro=500_000_000,
    used_micro=540_100_000,
    breakdown_micro={"inference": 540_100_000},
    requests=1_234,
    as_of=NOW,
    source=Position(topic="usage", partition=0, offset=7),
    sequence=Sequence(epoch=1, counter=1),
)
DECISION = Decision(
    decision_id="block/credits/org_wren/1",
    scope=Scope(kind="account", id="org_wren"),
    verdict="block",
    limit_name="credits",
    limit=500_000_000,
    observed=540_100_000,
    until=datetime(2026, 3, 1, tzinfo=UTC),
    tier="pro",
    plan_version=1,
    cause=None,
    decided_at=NOW,
    sequence=Sequence(epoch=1, counter=1),
)
MOMENT = Moment(
    Sight(2_000, 1_990, 1, 0, (SeenDecision(DECISION, 42),), (BALANCE,)),
    {"answers": {"200": 7, "403": 3, "429": 5}, "unreachable": 1, "behind_ms": 0},
    [900, 1_100],
    12.0,
    (Received("credits_80/org_wren:fired", "fired", "warning", "org_wren has used 80 % [of] its credits."),),
)


def printed(width: int = 140) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=False), out


def test_the_screen_shows_lag_credits_decisions_and_refusals() -> None:
    console, out = printed()
    console.print(View("trace.csv").render(MOMENT))
    text = out.getvalue()
    for word in (
        "lag 10 events",
        "900 ms behind",
        "540.1",
        "1,234",
        "account:org_wren",
        "42 ms",
        "429: 5",
        "no answer: 1",
        "fired   org_wren has used 80 % [of] its credits.",
    ):
        assert word in text


def test_without_a_terminal_a_line_comes_every_few_seconds() -> None:
    console, out = printed()
    view = View("trace.csv")
    view.line(console, MOMENT)
    view.line(console, MOMENT)
    assert out.getvalue().splitlines() == [
        "  12 s  alert fired (warning): org_wren has used 80 % [of] its credits.",
        "  12 s  0 events/s, lag 10 events, 1 decisions, answers 200:7 403:3 429:5",
    ]


def test_the_rate_is_taken_over_the_last_seconds() -> None:
    rate = Rate()
    assert rate.update(0, 0.0) == 0.0
    assert rate.update(100, 1.0) == 100.0
    for second in range(2, 20):
        found = rate.update(100 + 10 * (second - 1), float(second))
    assert found == 10.0
