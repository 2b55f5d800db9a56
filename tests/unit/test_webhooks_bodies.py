"""What a receiver gets for an alert."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_schemas.deliveries import WebhookBody, webhook_id_of
from tests.contract.golden_records import RECORDS
from tests.webhook_receiver import NOON, alert
from webhooks.bodies import body_of, escaped

[DRIFT] = [golden.record for golden in RECORDS if golden.file == "alert_audit_drift.json"]


def test_the_body_says_type_time_and_the_whole_alert() -> None:
    fired = alert(at=NOON)
    assert json.loads(body_of(fired.model_dump_json(), "standard")) == {
        "type": "alert.fired",
        "timestamp": "2026-01-31T12:00:00Z",
        "data": json.loads(fired.model_dump_json()),
    }
    cleared = WebhookBody.model_validate_json(body_of(alert(state="cleared").model_dump_json(), "standard"))
    assert (cleared.type, cleared.data.state) == ("alert.cleared", "cleared")


def test_fired_and_cleared_are_two_webhooks_and_a_repeated_record_is_the_same_one() -> None:
    ids = [webhook_id_of(alert(1)), webhook_id_of(alert(1, state="cleared")), webhook_id_of(alert(2))]
    assert len(set(ids)) == 3
    assert webhook_id_of(alert(1)) == ids[0] == "credits_80/org_heron/2026-01/1:fired"
    assert "." not in webhook_id_of(alert(alert_id="budget/label=v1.2/3"))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200))
def test_a_chat_message_reads_nothing_of_an_alert_as_a_command(sentence: str) -> None:
    message = json.loads(body_of(alert(sentence=sentence).model_dump_json(), "slack"))
    assert "<" not in message["text"]
    assert ">" not in message["text"]
    assert message["mrkdwn"] is False
    assert message["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").endswith(f": {sentence}")
    texts = [block.get("text") or block["elements"][0] for block in message["blocks"]]
    assert {text["type"] for text in texts} == {"plain_text"}
    assert all(text["text"] for text in texts)


def test_nobody_is_called_by_a_name() -> None:
    assert escaped("<!channel> & <@U1>") == "&lt;!channel&gt; &amp; &lt;@U1&gt;"


@pytest.mark.parametrize(
    ("record", "title"),
    [
        (alert(), "WARNING: credits 80"),
        (alert(state="cleared"), "CLEARED: credits 80"),
        (DRIFT, "CRITICAL: audit drift"),
    ],
)
def test_a_chat_message_says_how_grave_it_is_or_that_it_is_over(record: object, title: str) -> None:
    message = json.loads(body_of(record.model_dump_json(), "slack"))  # type: ignore[attr-defined]  # an alert
    assert message["blocks"][0]["text"]["text"] == title
