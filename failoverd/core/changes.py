"""The changes of primary of a cluster, from what each of its nodes noted of them (history.py).

A change is as long as it was for clients: from the close of the old primary's gate to the opening of the new one's.
Where the old one died, nobody saw it close: then from the last moment at which its lease was seen to be renewed. Nodes
that did not answer leave gaps, and a gap is said: a moment that is not known is None, an end that nobody saw `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from failoverd.core.forced import FORCED, was_forced
from failoverd.core.history import BLOCKED, TAKE_TERM, Part, Share
from failoverd.core.rules import RULES

AUTOMATIC = "failoverd"  # who did what nobody asked for
GIVEN = "take-over-given"
LEASE_RUNS_OUT = "lease-runs-out"
ADOPTION = "adopt-running-primary"
LATE_MS = 1000  # clocks of nodes may differ by so much; what began later than that after the new term is no cause of it
WHY = {rule.id: rule.why for rule in RULES}


Phases = tuple[tuple[str, Part], ...]  # with the node, in order


@dataclass(frozen=True, slots=True)
class Told:
    """One change as all shares tell it. Words that are not known are empty, moments None."""

    id: str
    term: int
    kind: str
    previous: str
    holder: str
    by: str
    reason: str
    rule: str
    request: str
    began_ms: int
    ended_ms: int | None
    outcome: str
    outage_ms: int | None
    phases: Phases


def told(shares: Iterable[Share], answered: frozenset[str]) -> list[Told]:
    """The changes that the shares of all nodes tell of, newest first. `answered`: whose shares these are."""
    terms: dict[int, list[Share]] = {}
    undone: list[Share] = []
    for share in shares:
        if share.undone_ms is None:
            terms.setdefault(share.term, []).append(share)
        else:
            undone.append(share)
    newest = max((term for term, of in terms.items() if any(s.begun_ms is not None for s in of)), default=0)
    found = []
    for term, of in terms.items():
        begun = [share for share in of if share.begun_ms is not None]
        if begun:
            # What a node only prepared for, and then missed the beginning of, belongs to it as well; not what one that
            # came back much later did in the old term, before it had heard of the new one.
            began_ms = min(share.begun_ms for share in begun if share.begun_ms is not None)
            together = [s for s in of if s.begun_ms is not None or s.began_ms <= began_ms + LATE_MS]
            found.append(_change(term, together, begun[0], answered, newest))
        elif term > newest and _is_one(of):
            found.append(_change(term, of, None, answered, newest))
    for share in undone:
        number = sum(other.term == share.term and other.began_ms < share.began_ms for other in undone) + 1
        found.append(_taken_back(share, number))
    return sorted(found, key=lambda change: (-change.began_ms, -change.term))


def _is_one(shares: list[Share]) -> bool:
    """Whether a change is under way that nobody has taken yet, and not just one node is cut off and prepares for it."""
    left = any(share.let_go or share.closed_ms is not None for share in shares)
    return left or len(shares) > 1 or any(part.name == BLOCKED for part in shares[0].parts)


def _change(term: int, shares: list[Share], begun: Share | None, answered: frozenset[str], newest: int) -> Told:
    by_node = {share.node: share for share in shares}
    asking = next((share for share in shares if share.request), None)
    previous = begun.previous if begun else next((share.previous for share in shares if share.previous), "")
    left, took = by_node.get(previous), by_node.get(begun.holder) if begun else None
    away = (left.let_go or left.rule) if left else ""
    rule = begun.reason.partition(":")[0] if begun else away or shares[0].rule
    closed_ms = left.closed_ms if left else None
    waited: Phases = ()
    if closed_ms is None and rule != GIVEN:  # who gave the term away closed at a moment of its own
        closed_ms = _newest(share.seen_ms for share in shares)
        waited = _waited(previous, took, closed_ms)
    opened_ms = took.opened_ms if took else None
    adopted = rule == ADOPTION
    outage_ms = opened_ms - closed_ms if opened_ms is not None and closed_ms is not None and not adopted else None
    began_ms = min(share.began_ms for share in shares)
    if closed_ms is not None and not adopted:
        began_ms = min(began_ms, closed_ms)
    if opened_ms is not None:
        outcome = "done"
    elif begun is not None and begun.holder not in answered:
        outcome = "unknown"
    else:
        outcome = "under-way" if begun is None or term == newest else "failed"
    forced = begun is not None and was_forced(begun.reason)
    return Told(
        id=f"term-{term}",
        term=term,
        kind=_kind(asked=asking is not None, forced=forced, adopted=adopted),
        previous=previous,
        holder=begun.holder if begun else "",
        by=asking.by if asking else AUTOMATIC,
        reason=_reason(begun, asking, away, rule),
        rule=rule,
        request=asking.request if asking else "",
        began_ms=began_ms,
        ended_ms=opened_ms,
        outcome=outcome,
        outage_ms=outage_ms if outage_ms is None or outage_ms >= 0 else None,  # the nodes' clocks do not agree
        phases=(*waited, *_phases(shares)),
    )


def _waited(previous: str, took: Share | None, seen_ms: int | None) -> Phases:
    """The longest part of a failover, which is no step of anybody: the dead primary's lease runs out."""
    asked = next((part for part in took.parts if part.name == TAKE_TERM), None) if took else None
    if asked is None or seen_ms is None:
        return ()
    return ((previous, Part(LEASE_RUNS_OUT, seen_ms, asked.began_ms, "succeeded")),)


def _kind(*, asked: bool, forced: bool, adopted: bool) -> str:
    if adopted:
        return "adoption"
    if forced:
        return "forced"
    return "switchover" if asked else "failover"


def _reason(begun: Share | None, asking: Share | None, away: str, rule: str) -> str:
    if begun is not None and was_forced(begun.reason):
        return begun.reason.removeprefix(f"{FORCED}: ")
    if asking is not None:
        return asking.asked or "asked for"
    if begun is not None and ":" in begun.reason:
        return begun.reason.partition(": ")[2]
    return WHY.get(away) or WHY.get(rule) or rule


def _newest(moments: Iterable[int | None]) -> int | None:
    known = [moment for moment in moments if moment is not None]
    return max(known) if known else None


def _phases(shares: list[Share]) -> Phases:
    named = [(share.node, part) for share in shares for part in share.parts]
    return tuple(sorted(named, key=lambda each: each[1].began_ms))


def _taken_back(share: Share, number: int) -> Told:
    """The old primary goes on: its clients had none while its gate was closed."""
    outage_ms = None
    if share.closed_ms is not None and share.opened_ms is not None:
        outage_ms = share.opened_ms - share.closed_ms
    return Told(
        id=f"term-{share.term}-undone-{number}",
        term=share.term,
        kind="switchover",
        previous=share.node,
        holder="",
        by=share.by or AUTOMATIC,
        reason=f"taken back before the point of no return{': ' + share.code if share.code else ''}",
        rule=share.let_go or share.rule,
        request=share.request,
        began_ms=share.began_ms,
        ended_ms=share.opened_ms or share.undone_ms,
        outcome="failed",
        outage_ms=outage_ms,
        phases=_phases([share]),
    )
