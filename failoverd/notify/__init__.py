"""Alerts: told to receivers by webhooks, once, by one node, and never in the way of a failover.

    runtime/alerting ──look──> Herald (a thread and a loop of its own)
                                 ├ Teller   who speaks, what is told (core/telling.py)
                                 ├ Shelf    book and queue on disk, SQLite
                                 ├ Sender   one task a receiver: retries, back-off, deadlines
                                 └ Circle   exchange of books with the other nodes, over mutual TLS

Each kind of receiver is one file with one function, and one line in BODIES.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.notify import alertmanager, plain, slack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failoverd.notify.body import Form

# Every code of this layer. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "ALERT_UNDELIVERED": "a receiver of alerts does not take them",
    "ALERT_REFUSED": "a receiver of alerts refuses them",
    "ALERT_REDIRECT": "a receiver of alerts sends them elsewhere, and they are not sent there",
    "ALERTS_DROPPED": "the queue of alerts was full, and some were left out",
    "ALERTS_DISK": "the queue of alerts cannot be kept on disk",
    "ALERTS_BUG": "the telling of alerts failed, and was begun again",
    "ALERTS_ALIVE": "failoverd tells alerts: sent again and again, so that silence is an alarm",
    "ALERTS_TEST": "a test of the way to a receiver of alerts",
}
FORMS: Mapping[str, Form] = {
    "alertmanager": alertmanager.FORM,
    "slack": slack.FORM,
    "json": plain.FORM,
}
