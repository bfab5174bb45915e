"""What people asked for and how it ended, and pauses, from the audits of a cluster.

A request is known to the node that was asked (`request`, `request-result`) and, where another one acts on it, to that
one as well (`request-ended` of a primary, `rebuild` of a node that is made anew): whoever asked may be gone, and so may
the node that was asked. What was refused at once (`request-refused`) has no id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from failoverd.core.history import Line

KEPT_EVENTS = 100
SAME_PAUSE_MS = 60_000  # each node notes a pause when it sees it


@dataclass(frozen=True, slots=True)
class Happened:
    """One request, or one pause. `id` is a request's; an outcome other than `under-way` is its end."""

    at_ms: int
    node: str
    kind: str  # "request", "pause"
    text: str = ""
    outcome: str = "under-way"
    id: str = ""
    by: str = ""
    ended_ms: int | None = None
    result: str = ""
    code: str = ""


Events = tuple[Happened, ...]  # of one node, oldest first


def happened(events: Events, line: Line) -> Events:
    """The events of a node once one more record of its audit is there."""
    note = NOTES.get(line.kind)
    return note(events, line) if note is not None else events


def _request(events: Events, line: Line) -> Events:
    asked = Happened(
        line.at_ms,
        line.node,
        "request",
        line.text,
        id=line.detail.get("request", ""),
        by=line.detail.get("by", ""),
    )
    return (*events, asked)[-KEPT_EVENTS:]


def _refused(events: Events, line: Line) -> Events:
    refused = Happened(
        line.at_ms,
        line.node,
        "request",
        line.text,
        "refused",
        by=line.detail.get("by", ""),
        ended_ms=line.at_ms,
        result=line.detail.get("why", ""),
        code=line.code,
    )
    return (*events, refused)[-KEPT_EVENTS:]


def _result(events: Events, line: Line) -> Events:
    return _ended(events, line, line.detail.get("outcome", "failed"), line.text)


def _request_ended(events: Events, line: Line) -> Events:
    return _ended(events, line, "done" if line.detail.get("succeeded") == "true" else "failed", line.text)


def _rebuild(events: Events, line: Line) -> Events:
    word, _, rest = line.text.partition(":")
    ends = {"is home": "done", "failed": "failed", "refused": "refused"}
    if word in ends:
        return _ended(events, line, ends[word], line.text)
    if any(event.id == line.detail.get("request") for event in events):
        return events
    source, _, by = rest.strip().partition(", by ")
    return _request(
        events,
        replace(line, text=f"{line.node} is made anew {source}", detail={**line.detail, "by": by}),
    )


def _ended(events: Events, line: Line, outcome: str, text: str) -> Events:
    request = line.detail.get("request", "")
    for index in range(len(events) - 1, -1, -1):
        event = events[index]
        if event.id == request and request:
            if event.outcome != "under-way":
                return events
            ended = replace(event, outcome=outcome, ended_ms=line.at_ms, result=text, code=line.code)
            return (*events[:index], ended, *events[index + 1 :])
    ended = Happened(
        line.at_ms, line.node, "request", outcome=outcome, id=request, ended_ms=line.at_ms, result=text, code=line.code
    )
    return (*events, ended)[-KEPT_EVENTS:]  # asked elsewhere


def _paused(events: Events, line: Line) -> Events:
    by = line.detail.get("by", "")
    event = Happened(line.at_ms, line.node, "pause", line.text, "done", by=by, ended_ms=line.at_ms)
    return (*events, event)[-KEPT_EVENTS:]


NOTES: dict[str, Callable[[Events, Line], Events]] = {
    "request": _request,
    "request-refused": _refused,
    "request-result": _result,
    "request-ended": _request_ended,
    "rebuild": _rebuild,
    "paused": _paused,
}  # by the kind of the record


def together(events: Iterable[Happened]) -> list[Happened]:
    """The events of all nodes, newest first: each request once, each pause once."""
    requests: dict[str, Happened] = {}
    others: list[Happened] = []
    for event in sorted(events, key=lambda event: event.at_ms):
        if event.id:
            known = requests.get(event.id)
            requests[event.id] = event if known is None else _both(known, event)
        elif not (event.kind == "pause" and any(_same_pause(event, other) for other in others)):
            others.append(event)
    return sorted([*requests.values(), *others], key=lambda event: -event.at_ms)


def _both(one: Happened, other: Happened) -> Happened:
    """What two nodes know of one request."""
    asked = one if one.text else other
    ends = [event for event in (one, other) if event.outcome != "under-way"]
    if not ends:
        return asked
    # Where both saw an end, the node that was asked told it to whoever asked.
    end = asked if asked in ends else ends[0]
    return replace(asked, outcome=end.outcome, ended_ms=end.ended_ms, result=end.result, code=end.code)


def _same_pause(one: Happened, other: Happened) -> bool:
    near = abs(one.at_ms - other.at_ms) < SAME_PAUSE_MS
    return other.kind == "pause" and one.text == other.text and one.node != other.node and near
