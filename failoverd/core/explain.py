"""A decision in words, and the tables as a picture. Nothing here decides: it reads what the rules read.

`explain` replays a view, live or out of the audit, and answers the two questions asked after a night's failover: why
this, and why nothing else. Words are the docstrings of the predicates and the reasons of the candidates, so that they
cannot drift from what was evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator

from failoverd.core import candidates
from failoverd.core.plan import PLANS
from failoverd.core.rules import RULES, Decision, Predicate, decide
from failoverd.core.view import View

# What `machine` makes of a decision that has no steps of its own.
WITHOUT_PLAN: dict[Decision, str] = {
    Decision.ARBITRATE: "observe, report, vote",
    Decision.ADOPT: "ask the store for term 1",
    Decision.TAKE_OVER: "ask the store for the next term",
    Decision.DROP_REQUEST: "tell the store how the request ended; serve on",
    Decision.RESTART_UNIT: "as serve, whose first step it is",
    Decision.CONDEMN: "ask the store to revoke the term",
    Decision.REJOIN: "it is kept on disk that this node is made anew, next rule: rebuilding",
    Decision.LET_GO: "the term is given back, next rule: giving-back",
}


def claim(predicate: Predicate) -> str:
    """What `predicate` says of the view, in one sentence."""
    return (predicate.__doc__ or predicate.__name__).strip().splitlines()[0]


def explain(view: View) -> str:
    """Say which rule fires and why, the first condition that each earlier rule lacked, and who may not be primary."""
    return "\n".join(_lines(view)) + "\n"


def _lines(view: View) -> Iterator[str]:
    fired = decide(view)
    yield f"{view.me.name} at {view.now_ms} ms, term {view.highest_term}, holder {view.holder or 'none'}"
    yield f"{fired.id}: {fired.decision.value}, since {fired.why}"
    yield from (f"  {claim(predicate)}" for predicate in fired.when)
    if fired is not RULES[0]:
        yield "Earlier rules, and what each lacks:"
    for rule in RULES:
        if rule is fired:
            break
        lacking = next(predicate for predicate in rule.when if not predicate(view))
        yield f"  {rule.id:<22} {claim(lacking)}"
    over = view.lease_is_over() or view.lease_is_lapsing()
    election = candidates.failover(view) if over else candidates.planned(view)
    yield f"Candidates for a {'failover' if over else 'switchover'}: {', '.join(election.order) or 'none'}"
    yield from (f"  {why.node:<22} {why.code}: {why.reason}" for why in election.rejected)
    blockers = candidates.change_blockers(view)
    if blockers:
        yield "No automatic change now:"
        yield from (f"  {why.code}: {why.reason}" for why in blockers)


def mermaid() -> str:
    """Draw the rules, first match first, each with its decision, and the steps that follow from it."""
    lines = ["flowchart TD"]
    for number, rule in enumerate(RULES):
        conditions = "<br/>".join(predicate.__name__.replace("_", " ") for predicate in rule.when) or "otherwise"
        lines.append(f'  r{number}{{"{rule.id}<br/><small>{conditions}</small>"}}')
        lines.append(f"  r{number} -->|yes| {rule.decision.value}")
        if number + 1 < len(RULES):
            lines.append(f"  r{number} -->|no| r{number + 1}")
    for decision in Decision:
        steps = " · ".join(kind.value for kind in PLANS.get(decision, ())) or WITHOUT_PLAN[decision]
        lines.append(f'  {decision.value}["{decision.value}<br/><small>{steps}</small>"]')
    return "\n".join(lines) + "\n"
