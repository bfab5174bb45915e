"""What the daemon tells of the past, version v1: the changes of primary, and how requests ended. See document.py.

A change is spread over nodes: the old primary closes, the new one opens. The answering node asks the others for what
they noted and puts it together, by the term and by their wall clocks; whoever did not answer stands in `unseen`.

    GET /v1/history?limit=20   200 HistoryDocument, newest first
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from failoverd.runtime.document import Reason  # noqa: TC001 - from_json reads the annotations

ChangeKind = Literal[
    "switchover",  # a person asked for it
    "failover",  # failoverd did it: the primary was lost, or let go because something of it failed
    "forced",  # a person gave up what could not be proven
    "adoption",  # a running primary was taken into care: nothing moved
]
ChangeOutcome = Literal[
    "done",  # the new primary's gate is open
    "failed",  # it was undone, or another term began before its gate was open
    "under-way",
    "unknown",  # its new primary was not heard, and nobody else sees its gate
]
PhaseOutcome = Literal["succeeded", "failed", "unknown", "under-way"]
EventOutcome = Literal[
    "done",
    "failed",
    "refused",  # nothing was touched
    "under-way",  # accepted, and no end of it was noted on any node that was asked
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One step of a change on one node; `began_ms` and `ended_ms` are milliseconds after the change began."""

    name: str
    node: str
    began_ms: int
    ended_ms: int | None
    outcome: PhaseOutcome
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of primary: how term `term` began.

    `by`: who asked, or failoverd. `reason`: why, in words. `rule`: the row of the table that made this term.
    `outage_ms` is from the close of the old primary's gate (or, where it died, the last moment at which its lease was
    seen to be renewed) to the opening of the new one's; None: not known. `holder` None: nobody has taken over yet.
    """

    id: str  # "term-7": what `failoverctl history` and `explain` take
    term: int
    kind: ChangeKind
    previous: str | None
    holder: str | None
    by: str
    reason: str
    rule: str
    began: str  # UTC, ISO 8601 with milliseconds and Z
    ended: str | None
    outcome: ChangeOutcome
    outage_ms: int | None
    phases: tuple[Phase, ...] = ()
    request: str = ""  # the id of the request that asked for it


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """A request of a person and how it ended, or a pause as the store had it."""

    time: str
    node: str
    kind: Literal["request", "pause"]
    text: str
    outcome: EventOutcome
    id: str = ""  # of a request
    by: str = ""
    ended: str | None = None
    result: str = ""  # the words of its end
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryDocument:
    """What `node` and those whom it could ask know of the past, newest first."""

    api: Literal["v1"] = "v1"
    cluster: str
    node: str
    changes: tuple[Change, ...]
    events: tuple[PastEvent, ...] = ()
    unseen: tuple[Reason, ...] = ()  # who could not be asked, and why
