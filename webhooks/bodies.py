"""What a receiver gets for an alert: the alert itself, or a text for a chat."""

import json
from collections.abc import Callable
from typing import Final, Literal

from sluicegate_schemas.alerts import ALERT, AuditDrift, UsageAlert
from sluicegate_schemas.deliveries import WebhookBody

Format = Literal["standard", "slack"]
_TITLE_MAX: Final = 150
"""The longest header that Slack's Block Kit takes."""
_CRITICAL: Final = "critical"


def severity_of(alert: AuditDrift | UsageAlert) -> str:
    """How grave it is; books that differ are critical."""
    return alert.severity if isinstance(alert, UsageAlert) else _CRITICAL


def rule_of(alert: AuditDrift | UsageAlert) -> str:
    """The rule that fired, or the kind of an alert that has none."""
    return alert.rule if isinstance(alert, UsageAlert) else alert.kind


def body_of(alert_json: str, form: Format) -> str:
    """The body for an alert as it stands in its topic; the same for each attempt. Raises ValueError."""
    return _FORMS[form](ALERT.validate_json(alert_json))


def standard_body(alert: AuditDrift | UsageAlert) -> str:
    """A ``WebhookBody``."""
    return WebhookBody(
        type="alert.fired" if alert.state == "fired" else "alert.cleared", timestamp=alert.at, data=alert
    ).model_dump_json()


def slack_body(alert: AuditDrift | UsageAlert) -> str:
    """A message for an incoming webhook of Slack.

    Names in alerts are tenants' own. So the blocks are ``plain_text``, in which Slack reads no mention, link or
    formatting, and the text that notifications show has its three control signs escaped.
    """
    fired = alert.state == "fired"
    title = f"{severity_of(alert).upper() if fired else 'CLEARED'}: {rule_of(alert).replace('_', ' ')}"
    lines = [line for line in (alert.sentence, alert.advice) if line]
    whose = alert.organization_id or (alert.account_id if isinstance(alert, UsageAlert) else None)
    when = f"{whose or 'all organizations'} · {alert.at:%Y-%m-%d %H:%M:%S} UTC"
    blocks: list[dict[str, object]] = [{"type": "header", "text": _plain(title[:_TITLE_MAX])}]
    blocks += [{"type": "section", "text": _plain(line)} for line in lines]
    blocks += [{"type": "context", "elements": [_plain(when)]}]
    return json.dumps({"text": escaped(f"{title}: {alert.sentence}"), "mrkdwn": False, "blocks": blocks})


def escaped(text: str) -> str:
    """``text`` so that Slack shows it as it is: ``<!channel>`` would call everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: str) -> dict[str, object]:
    return {"type": "plain_text", "text": text, "emoji": False}


_FORMS: Final[dict[Format, Callable[[AuditDrift | UsageAlert], str]]] = {
    "standard": standard_body,
    "slack": slack_body,
}
