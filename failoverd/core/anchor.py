"""Where the nodes' audits stood as a term began and as it ended: put into the store beside the record, by its holder.

    head    the number of a node's last record, and the hash of that line, which is over all lines before it
    anchor  the heads that the holder knows: its own, and those of the copies that it has of the others' audits

Nothing is decided on an anchor. It is for whoever looks later whether a record was cut or rewritten: on that node, on
the nodes that have copies, and in the store at once is more than most can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from failoverd.core.model import NodeName
from failoverd.core.view import GateState, View

Moment = Literal["begin", "end"]


@dataclass(frozen=True, slots=True)
class Head:
    """The end of one node's audit. `hash` is SHA-256 in hexadecimal."""

    node: NodeName
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """The heads as `by` knew them at a moment of its term. `at_ms` is since 1970, by its wall clock.

    Of one term there may be two of one moment: the first, and the newest of a daemon that was started again.
    """

    term: int
    by: NodeName
    moment: Moment
    at_ms: int
    heads: tuple[Head, ...]


def due(view: View, held_term: int, put: tuple[int, Moment] | None) -> tuple[int, Moment] | None:
    """Which anchor this node has to put now. `held_term`: the newest term that it has held (0: none); `put`: its last.

    At the begin of a term it waits until the node serves: a failover is not the time for anything that can be later.
    """
    held = view.held
    if held is not None:
        begun = put is not None and put[0] >= held.term
        return (held.term, "begin") if view.gate is GateState.OPEN and not begun else None
    if held_term == 0 or view.leaving is not None or put == (held_term, "end"):
        return None
    return held_term, "end"
