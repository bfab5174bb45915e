"""Slack's incoming webhooks, and what takes the same: Mattermost, Rocket.Chat.

`text` is what a notification on a phone shows; the attachment has the colour and the rest. Attachments, not blocks:
Mattermost and Rocket.Chat know no blocks. What comes out of the cluster is escaped as Slack asks (& < >), so that no
reason can mention a channel or make a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from failoverd.core.findings import Severity
from failoverd.core.telling import Kind
from failoverd.notify.body import MORE, Form, summary, time_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from failoverd.core.telling import Message
    from failoverd.notify.body import Sender

RED, YELLOW, GREEN, BLUE = "#c4314b", "#e8a33d", "#2e8b57", "#3b78c4"


def _body(messages: Sequence[Message], sender: Sender) -> dict[str, Any]:
    (message,) = messages
    alert, line = message.alert, _escaped(summary(message, sender))
    fields = [
        _field("Code", alert.code),
        _field("Node", alert.node or "the cluster"),
        _field("Since", time_of(message.since_ms)),
        _field("Told by", sender.node),
    ]
    if message.kind is Kind.RESOLVED:
        fields.insert(3, _field("Until", time_of(message.until_ms)))
    rest = [alert.meaning]
    if message.kind is not Kind.RESOLVED:
        rest += [f"What to do: {alert.fix}" if alert.fix else "", f"Runbook: {alert.page}", f"More: {MORE}"]
    return {
        "text": line,
        "attachments": [
            {
                "color": _colour(message),
                "fallback": line,
                "text": "\n".join(_escaped(text) for text in rest if text),
                "fields": fields,
            }
        ],
    }


def _colour(message: Message) -> str:
    if message.kind is Kind.RESOLVED:
        return GREEN
    if message.kind in {Kind.HEARTBEAT, Kind.TEST}:
        return BLUE
    return RED if message.alert.severity is Severity.BLOCKS else YELLOW


def _field(title: str, value: str) -> dict[str, Any]:
    return {"title": title, "value": _escaped(value), "short": True}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


FORM = Form(body=_body)
