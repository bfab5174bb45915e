"""What would have changed a decision: one fact of the view turned, and the same rules asked again.

    view ──one fact otherwise──> view' ──rules.decide──> another rule, or the same

Which facts are turned, facts.py says. Each is turned alone, in this view and nowhere else, so that an answer says "with
this otherwise and all else as it was", and no more: what the world would have done next is not in it. Where no single
fact changes anything that is said too, with how many were tried; two facts together may.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core import candidates
from failoverd.core.facts import facts
from failoverd.core.model import NodeName
from failoverd.core.rules import Rule, decide
from failoverd.core.view import View


@dataclass(frozen=True, slots=True)
class Otherwise:
    """With one fact otherwise another rule would fire."""

    words: str
    rule: Rule


def otherwise(view: View) -> tuple[tuple[Otherwise, ...], int]:
    """What else would have been decided with one fact otherwise; and how many facts were tried."""
    fired, found, tried = decide(view), [], 0
    for fact in facts(view):
        tried += 1
        rule = decide(fact.view)
        if rule is not fired:
            found.append(Otherwise(fact.words, rule))
    return tuple(found), tried


def would_make_candidate(view: View, name: NodeName) -> tuple[tuple[str, ...], int]:
    """Which facts, each alone, would make `name` one who may be primary next; and how many were tried."""
    found, tried = [], 0
    for fact in facts(view):
        tried += 1
        if may_be_next(fact.view, name):
            found.append(fact.words)
    return tuple(found), tried


def may_be_next(view: View, name: NodeName) -> bool:
    """Whether `name` is among those who could take the role now, by hand-over or after the primary's loss."""
    return name in election(view).order


def election(view: View) -> candidates.Election:
    """Who could be primary next, as things stand: by a takeover where the lease is over, else by a hand-over."""
    over = view.lease_is_over() or view.lease_is_lapsing()
    return candidates.failover(view) if over else candidates.planned(view)
