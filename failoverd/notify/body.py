"""What all kinds of bodies have in common: the words of a message, its times, and what a kind of receiver needs."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from failoverd.core.telling import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from failoverd.core.telling import Message

MORE = "failoverctl check"  # how to see more, on any node
WORDS = {
    Kind.FIRING: "",
    Kind.RESOLVED: "resolved: ",
    Kind.REPEAT: "still open: ",
    Kind.EVENT: "",
    Kind.HEARTBEAT: "",
    Kind.TEST: "test: ",
}


@dataclass(frozen=True, slots=True)
class Sender:
    """Who tells: the cluster, and the node that speaks for it. `now_ms` is of the wall clock."""

    cluster: str
    node: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of receiver. `path` is appended to its URL where that does not end with it.

    `body` makes what is posted of some messages; several at once only where `refresh_ms` says that the receiver forgets
    what it is not told again. `repeats`: it wants to be reminded of what is still open.
    """

    body: Callable[[Sequence[Message], Sender], Any]
    path: str = ""
    refresh_ms: int | None = None
    repeats: bool = True


def summary(message: Message, sender: Sender) -> str:
    """One line: what it is, where, and why."""
    alert = message.alert
    where = f" {alert.node}" if alert.node else ""
    return f"{WORDS[message.kind]}{sender.cluster}{where}: {alert.code}: {alert.reason}"


def time_of(wall_ms: int) -> str:
    """RFC 3339, in UTC."""
    return dt.datetime.fromtimestamp(wall_ms / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
