"""Plain JSON, for a receiver of one's own. One object a request; version 1 is this.

    version   1; a later version adds keys, and takes none away
    id        names the message: a repeat of the same one, after an answer that was lost, has the same id
    status    firing | resolved | repeat | event | heartbeat | test; all firings get one `resolved`, events get none
    cluster, node (null: the whole cluster), code, severity (blocks | warns)
    key, level    of one key a higher level is newer: odd is firing, even is resolved; of an event it is the term
    summary   one line of all this
    reason, meaning, fix, runbook, more   what was found, what it means, the way out, its page, the command to see more
    since, until (null: not over)         RFC 3339, UTC
    told_by   the node that speaks

The id also stands in the header Idempotency-Key, in all kinds of bodies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from failoverd.notify.body import MORE, Form, summary, time_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from failoverd.core.telling import Message
    from failoverd.notify.body import Sender

VERSION = 1


def _body(messages: Sequence[Message], sender: Sender) -> dict[str, Any]:
    (message,) = messages
    alert = message.alert
    return {
        "version": VERSION,
        "id": message.id,
        "status": message.kind.value,
        "cluster": sender.cluster,
        "node": alert.node or None,
        "code": alert.code,
        "severity": alert.severity.value,
        "key": f"{sender.cluster}/{message.key}",
        "level": message.level,
        "summary": summary(message, sender),
        "reason": alert.reason,
        "meaning": alert.meaning,
        "fix": alert.fix,
        "runbook": alert.page,
        "more": MORE,
        "since": time_of(message.since_ms),
        "until": time_of(message.until_ms) if message.until_ms else None,
        "told_by": sender.node,
    }


FORM = Form(body=_body)
