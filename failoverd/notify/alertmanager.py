"""Prometheus' Alertmanager, API v2: POST /api/v2/alerts takes a list of alerts, each named by its labels.

Alertmanager forgets an alert that is not posted again before its `endsAt`. So an open one is posted each minute with an
end of five minutes later: failoverd says itself when it is over, and if no failoverd is left to say so, it ends then.
Reminders are Alertmanager's own business (`repeat_interval`). An event has an end from the beginning.

Labels must be the same each time, or it is another alert: what changes stands in the annotations.
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

REFRESH_MS = 60_000
KEPT_MS = 300_000
EVENT_MS = 900_000  # long enough for group_wait, and for a person to look
SEVERITIES = {Severity.BLOCKS: "critical", Severity.WARNS: "warning"}


def _body(messages: Sequence[Message], sender: Sender) -> list[dict[str, Any]]:
    return [_alert(message, sender) for message in messages]


def _alert(message: Message, sender: Sender) -> dict[str, Any]:
    alert = message.alert
    labels = {"alertname": alert.code, "cluster": sender.cluster, "severity": SEVERITIES[alert.severity]}
    if alert.node:
        labels["node"] = alert.node
    if message.kind in {Kind.EVENT, Kind.TEST}:
        labels["number"] = str(message.level)  # each is an alert of its own
    return {
        "labels": labels,
        "annotations": {
            "summary": summary(message, sender),
            "description": f"{alert.reason}. {alert.meaning}. What to do: {alert.fix}. More: {MORE}",
            "runbook": alert.page,
            "id": message.id,
        },
        "startsAt": time_of(message.since_ms),
        "endsAt": time_of(_end_ms(message, sender)),
    }


def _end_ms(message: Message, sender: Sender) -> int:
    if message.kind is Kind.RESOLVED:
        return min(message.until_ms, sender.now_ms)  # one that ends in the future is not resolved yet
    return sender.now_ms + (EVENT_MS if message.kind in {Kind.EVENT, Kind.HEARTBEAT} else KEPT_MS)


FORM = Form(body=_body, path="/api/v2/alerts", refresh_ms=REFRESH_MS, repeats=False)
