"""What one node's audit says of the changes of primary: its share of each. changes.py puts those of all together.

    audit of mail1 ── noted ──> share of term 8: let-go, close-gate, make-read-only ──┐
    audit of mail2 ── noted ──> share of term 8: await-position, …, open-gate ────────┼─ told ──> one change
    audit of mail3 ── noted ──> share of term 8: follow ──────────────────────────────┘

A change to term T + 1 begins in term T, with a decision that leads away from it, and on each node at another moment.
So a share is opened by such a decision, gets the steps that follow, and is *begun* once the store names the new term's
holder. One that comes to nothing (the old primary renewed after all) is forgotten; one that was taken back is kept.

Moments are milliseconds since 1970 by each node's own wall clock, as its audit has them. They order what different
nodes did as well as those clocks agree, which is said nowhere better than by an outage that would be negative: it is
not known then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from failoverd.core.effects import StepKind
from failoverd.core.rules import Decision

KEPT_SHARES = 50
KEPT_PARTS = 40  # of one share: a promotion has some 15
TOGETHER_MS = 120_000  # after a term's beginning: what is done later is no part of how it began

AWAY = {
    Decision.LET_GO.value,
    Decision.GIVE_BACK.value,
    Decision.DEMOTE.value,
    Decision.PREPARE.value,
    Decision.RECEIVE.value,
    Decision.TAKE_OVER.value,
    Decision.ADOPT.value,
    Decision.CONDEMN.value,
    Decision.FENCE.value,
}  # decisions that lead away from the present term
BACK = {Decision.SERVE.value, Decision.FOLLOW.value, Decision.REBUILD.value}  # and those that say that it goes on
BESIDE = {"serving-without-lease"}  # a hand, or a node that was away, put right: no term ends by it
AFTER = {
    StepKind.BREAK_LOCKS.value,
    StepKind.PROVE.value,
    StepKind.RELEASE.value,
    StepKind.HAND_ON.value,
}  # what still belongs to a change once the new primary's gate is open, or the replica follows
TAKE_TERM = "take-term"
BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Line:
    """One audit record, as far as it is read here."""

    at_ms: int
    node: str
    term: int
    kind: str
    rule: str = ""
    text: str = ""
    code: str = ""
    detail: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """One phase on one node. `number`: the step's, by which its end is found."""

    name: str
    began_ms: int
    ended_ms: int | None = None
    outcome: str = "under-way"
    code: str = ""
    number: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """What one node noted of one change.

    `closed_ms`, `opened_ms`: when its gate closed, or opened, on the way; `seen_ms`: when it last saw the old primary's
    lease renewed; `let_go`: the rule by which it gave the old term away; `undone_ms`: when it took that back, and
    `opened_ms` then is its gate's.
    """

    node: str
    term: int
    began_ms: int
    rule: str = ""  # that led away from the old term
    begun_ms: int | None = None
    holder: str = ""
    previous: str = ""
    reason: str = ""  # as the store has it
    by: str = ""
    asked: str = ""
    request: str = ""
    let_go: str = ""
    closed_ms: int | None = None
    opened_ms: int | None = None
    seen_ms: int | None = None
    undone_ms: int | None = None
    code: str = ""  # why it was undone
    parts: tuple[Part, ...] = ()


Shares = tuple[Share, ...]  # of one node, oldest first
Changing = Callable[[Share], Share]


def noted(shares: Shares, line: Line) -> Shares:
    """The shares of a node once one more record of its audit is there."""
    note = NOTES.get(line.kind)
    return note(shares, line) if note is not None else shares


def _on_pending(shares: Shares, line: Line, change: Changing) -> Shares:
    """Change the share of the term to come, if there is one."""
    return _changed(shares, _pending_index(shares, line), change)


def _changed(shares: Shares, index: int | None, change: Changing) -> Shares:
    if index is None:
        return shares
    return (*shares[:index], change(shares[index]), *shares[index + 1 :])


def _pending_index(shares: Shares, line: Line) -> int | None:
    for index in range(len(shares) - 1, -1, -1):
        share = shares[index]
        if share.term == line.term + 1 and share.begun_ms is None and share.undone_ms is None:
            return index
    return None


def _step_index(shares: Shares, line: Line, name: str) -> int | None:
    """Whose step it is: of the term to come, of a change that is being taken back, of how the present term began."""
    index = _pending_index(shares, line)
    if index is not None:
        return index
    for index in range(len(shares) - 1, -1, -1):
        share = shares[index]
        if share.undone_ms is not None and share.term == line.term + 1 and share.opened_ms is None:
            return index
        if share.term == line.term and share.begun_ms is not None:
            return index if _still_begins(share, line, name) else None
    return None


def _still_begins(share: Share, line: Line, name: str) -> bool:
    done = {part.name for part in share.parts if part.outcome == "succeeded"}
    settled = share.opened_ms is not None or StepKind.FOLLOW.value in done
    early = share.begun_ms is not None and line.at_ms - share.begun_ms < TOGETHER_MS
    return early and (not settled or (name in AFTER and name not in done))


def _pending(shares: Shares, line: Line) -> Shares:
    """With a share of the term to come."""
    if _pending_index(shares, line) is not None:
        return shares
    previous = line.detail.get("holder", "") if line.kind == "decision" else ""
    return (*shares, Share(line.node, line.term + 1, line.at_ms, line.rule, previous=previous))[-KEPT_SHARES:]


def _decided(shares: Shares, line: Line) -> Shares:
    decision = line.text.partition(":")[0]
    if decision in AWAY and line.rule not in BESIDE:
        shares = _pending(shares, line)
        if decision == Decision.LET_GO.value:
            shares = _on_pending(shares, line, lambda share: replace(share, let_go=line.rule))
        return shares
    index = _pending_index(shares, line)
    if decision in BACK and index is not None:
        return (*shares[:index], *shares[index + 1 :])  # it came to nothing
    return shares


def _step(shares: Shares, line: Line) -> Shares:
    name = line.detail.get("name", "")
    index = _step_index(shares, line, name)
    part = Part(name, line.at_ms, number=line.detail.get("step", ""))
    return _changed(shares, index, lambda share: _with_part(share, part)) if name else shares


def _with_part(share: Share, part: Part) -> Share:
    """One more phase; an attempt after one that failed goes on with the same."""
    for index in range(len(share.parts) - 1, -1, -1):
        former = share.parts[index]
        if former.name == part.name and former.outcome in ("failed", "unknown"):
            again = replace(part, began_ms=former.began_ms)
            return replace(share, parts=(*share.parts[:index], *share.parts[index + 1 :], again))
    return replace(share, parts=(*share.parts, part)[:KEPT_PARTS])


def _step_ended(shares: Shares, line: Line) -> Shares:
    number, name = line.detail.get("step", ""), line.detail.get("name", "")
    outcome = line.detail.get("outcome", "unknown")
    for index in range(len(shares) - 1, -1, -1):
        share = shares[index]
        for place, part in enumerate(share.parts):
            if part.number == number and part.name == name and part.ended_ms is None:
                ended = replace(part, ended_ms=line.at_ms, outcome=outcome, code=line.code)
                changed = replace(share, parts=(*share.parts[:place], ended, *share.parts[place + 1 :]))
                return (*shares[:index], _gate(changed, line, name, outcome), *shares[index + 1 :])
    return shares


def _gate(share: Share, line: Line, name: str, outcome: str) -> Share:
    if outcome != "succeeded":
        return share
    if name == StepKind.CLOSE_GATE.value and share.begun_ms is None:
        return replace(share, closed_ms=share.closed_ms or line.at_ms)
    if name == StepKind.OPEN_GATE.value and (share.begun_ms is not None or share.undone_ms is not None):
        return replace(share, opened_ms=share.opened_ms or line.at_ms)
    return share


def _take_over(shares: Shares, line: Line) -> Shares:
    silent = line.detail.get("silent_ms", "")
    seen_ms = line.at_ms - int(silent) if silent.isdecimal() else None

    def asking(share: Share) -> Share:
        share = replace(share, seen_ms=seen_ms if share.seen_ms is None else share.seen_ms)
        if any(part.name == TAKE_TERM and part.ended_ms is None for part in share.parts):
            return share
        return _with_part(share, Part(TAKE_TERM, line.at_ms))

    return _on_pending(_pending(shares, line), line, asking)


def _term_taken(share: Share, line: Line, outcome: str) -> Share:
    parts = tuple(
        replace(part, ended_ms=line.at_ms, outcome=outcome, code=line.code)
        if part.name == TAKE_TERM and part.ended_ms is None
        else part
        for part in share.parts
    )
    return replace(share, parts=parts)


def _term(shares: Shares, line: Line) -> Shares:
    """The store names who is primary in this term."""
    before = replace(line, term=line.term - 1)
    shares = _pending(shares, before)
    detail, holder = line.detail, line.detail.get("holder", "")

    def begin(share: Share) -> Share:
        taken = _term_taken(share, line, "succeeded" if holder == line.node else "failed")
        return replace(
            taken,
            begun_ms=line.at_ms,
            holder=holder,
            previous=detail.get("previous", ""),
            reason=detail.get("reason", ""),
            by=detail.get("by", ""),
            asked=detail.get("asked", ""),
            request=detail.get("request", ""),
        )

    return _on_pending(shares, before, begin)


def _blocked(shares: Shares, line: Line) -> Shares:
    part = Part(BLOCKED, line.at_ms, line.at_ms, "failed", line.code)
    return _on_pending(shares, line, lambda share: _with_part(share, part))


def _lease_ended(shares: Shares, line: Line) -> Shares:
    shares = _pending(shares, line)
    return _on_pending(shares, line, lambda share: replace(share, closed_ms=share.closed_ms or line.at_ms))


def _undone(shares: Shares, line: Line) -> Shares:
    by, request = line.detail.get("by", ""), line.detail.get("request", "")
    return _on_pending(
        shares, line, lambda share: replace(share, undone_ms=line.at_ms, code=line.code, by=by, request=request)
    )


NOTES: dict[str, Callable[[Shares, Line], Shares]] = {
    "decision": _decided,
    "step": _step,
    "step-ended": _step_ended,
    "take-over": _take_over,
    "takeover-lost": lambda shares, line: _on_pending(shares, line, lambda share: _term_taken(share, line, "failed")),
    "takeover-unanswered": lambda shares, line: _on_pending(
        shares, line, lambda share: _term_taken(share, line, "unknown")
    ),
    "blocked": _blocked,
    "lease-ended": _lease_ended,
    "switchover-undone": _undone,
    "term": _term,
}  # by the kind of the record; of all others nothing follows here
