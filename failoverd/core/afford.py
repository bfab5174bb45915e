"""What can still be lost: for each node but the primary, what would be left of service and of protection without it.

    serves       the primary goes on: commits are acknowledged, and its lease is kept by the store or by promises
    replaceable  were the primary lost as well, another node could take over

Each is asked of the view without that node, by the predicates that the rules are made of, so that what an operator is
told cannot disagree with what would be done. Nodes are taken away one at a time; two at once are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core import bounded, candidates, rejoin
from failoverd.core.model import NodeKind, NodeName
from failoverd.core.quorum import majority
from failoverd.core.view import View


@dataclass(frozen=True, slots=True)
class Loss:
    """What the loss of `node` alone would leave."""

    node: NodeName
    serves: bool
    replaceable: bool


def losses(view: View, store_node: NodeName | None) -> tuple[Loss, ...]:
    """Of each node but the primary. `store_node`: where the store lives, if it lives on one member."""
    return tuple(
        Loss(
            node.name,
            serves=_serves_without(view, node.name, on_store=node.name == store_node),
            replaceable=node.name != store_node and _replaceable(without(view, node.name), node.name),
        )
        for node in view.nodes
        if node.name != view.holder
    )


def without(view: View, name: NodeName) -> View:
    """The view without what is known of `name`."""
    if name == view.me.name:
        return view.changed(database=None)
    return view.changed(reports=tuple(report for report in view.reports if report.sender != name))


def _serves_without(view: View, name: NodeName, *, on_store: bool) -> bool:
    if view.holder is None or view.lease_is_over():
        return False
    if on_store and not _promises_would_do(view):
        return False
    if view.node(name).kind is not NodeKind.DATA:
        return True
    waits_for_nobody = bounded.applies(view) or view.policy.go_on_after_ms is not None
    return waits_for_nobody or rejoin.others_acknowledge(view, name)


def _promises_would_do(view: View) -> bool:
    """Without the store: every other data node is there to promise (rule 4)."""
    others = [node.name for node in view.data_nodes if node.name != view.holder]
    heard = [view.me.name, *(name for name, report in view.fresh.items() if view.alike(report))]
    return all(name in heard for name in others)


def _replaceable(left: View, gone: NodeName) -> bool:
    observers = [node.name for node in left.nodes if node.name != left.holder]
    heard = [name for name in observers if name != gone and (name == left.me.name or name in left.fresh)]
    if len(heard) < majority(len(observers)):
        return False
    return candidates.could_elect(left) and not candidates.change_blockers(left)
