"""A view explained: the rule that fires and why, what each earlier one lacks, who may be next, what would change it.

The same as values that explain.py has as text, and more: `failoverctl explain` shows them, programs read them.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core import candidates, counterfactual
from failoverd.core.explain import claim
from failoverd.core.model import NodeName, Rejected
from failoverd.core.rules import RULES, Rule, decide
from failoverd.core.view import View


@dataclass(frozen=True, slots=True)
class Lacking:
    """An earlier rule that did not fire, and every condition that it lacked."""

    rule: Rule
    lacks: tuple[str, ...]
    conditions: int


@dataclass(frozen=True, slots=True)
class Explained:
    """Why `rule`, and why nothing else. `otherwise` and `tried`: see counterfactual.py."""

    rule: Rule
    because: tuple[str, ...]
    earlier: tuple[Lacking, ...]
    takeover: bool  # who may be next is asked for a takeover, else for a hand-over
    order: tuple[NodeName, ...]
    rejected: tuple[Rejected, ...]
    blockers: tuple[Rejected, ...]
    otherwise: tuple[counterfactual.Otherwise, ...]
    tried: int


def explained(view: View) -> Explained:
    """Ask the rules once, and once more for each fact that could be otherwise. Some ten milliseconds."""
    fired = decide(view)
    earlier = []
    for rule in RULES:
        if rule is fired:
            break
        lacks = tuple(claim(predicate) for predicate in rule.when if not predicate(view))
        earlier.append(Lacking(rule, lacks, len(rule.when)))
    election = counterfactual.election(view)
    otherwise, tried = counterfactual.otherwise(view)
    return Explained(
        rule=fired,
        because=tuple(claim(predicate) for predicate in fired.when),
        earlier=tuple(earlier),
        takeover=view.lease_is_over() or view.lease_is_lapsing(),
        order=election.order,
        rejected=election.rejected,
        blockers=candidates.change_blockers(view),
        otherwise=otherwise,
        tried=tried,
    )


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why `node` is not primary. Without `reasons` nothing speaks against it, and `said` says how it could be."""

    node: NodeName
    primary: bool  # it is
    said: str
    reasons: tuple[Rejected, ...]
    would_do: tuple[str, ...]  # facts that, each alone, would make it one who may be next
    tried: int


def why_not(view: View, name: str) -> WhyNot:
    """Why `name` is not primary now, and could not be next."""
    wanted, holder = NodeName(name), view.holder
    if holder == wanted and (view.i_hold() if wanted == view.me.name else not view.lease_is_over()):
        return WhyNot(wanted, primary=True, said=f"{wanted} is primary, in term {view.highest_term}",
                      reasons=(), would_do=(), tried=0)  # fmt: skip
    known = any(node.name == wanted for node in view.data_nodes)
    reasons = _reasons(view, wanted)
    would_do, tried = counterfactual.would_make_candidate(view, wanted) if known and reasons else ((), 0)
    return WhyNot(wanted, primary=False, said=_said(view, wanted, reasons),
                  reasons=reasons, would_do=would_do, tried=tried)  # fmt: skip


def _reasons(view: View, wanted: NodeName) -> tuple[Rejected, ...]:
    over = view.lease_is_over() or view.lease_is_lapsing()
    if not over or all(node.name != wanted for node in view.data_nodes):
        planned = candidates.planned_rejection(view, wanted)
        return (planned,) if planned is not None else ()
    if wanted == view.me.name:
        return candidates.why_not(view)
    mine = tuple(rejected for rejected in candidates.failover(view).rejected if rejected.node == wanted)
    return (*mine, *candidates.change_blockers(view))


def _said(view: View, wanted: NodeName, reasons: tuple[Rejected, ...]) -> str:
    holder, best = view.holder, counterfactual.election(view).best
    if reasons:
        return f"{wanted} could not become primary now"
    if view.lease_is_over() or view.lease_is_lapsing():
        first = f": {best} comes first" if best is not None and best != wanted else ""
        return f"{wanted} could take over{first}"
    report = view.fresh.get(wanted)
    rule = f"; its own rule is {report.rule}" if report is not None and report.rule else ""
    return f"{holder} is primary and renews its lease; {wanted} could take the role, and nobody asked for that{rule}"
