"""Whose history is the ended holder's, and whether what was heard proves where all that was acknowledged is.

A position is a number in somebody's log, and two logs that have diverged cannot be compared by it. So a candidate is
the ended holder or has its history: an old primary with many transactions of its own has not. Within a term numbers
only grow, also after a crash (mariadb_promote.fresh_number; MySQL's crash takes none back, mysql_promote): of two heirs
the one with the higher last number lacks nothing that was acknowledged and the other has.
"""

from __future__ import annotations

from failoverd.core import bounded
from failoverd.core.gtid import GtidSet
from failoverd.core.model import NodeName, Record, Rejected
from failoverd.core.view import View


def _has_caught_up(view: View, name: NodeName) -> bool:
    report = view.report_of(name)
    return view.caught_up() if name == view.me.name else report is not None and report.caught_up


def forgot_nothing(view: View, name: NodeName, holder: NodeName) -> bool:
    """Its position shows all that it acknowledged in the holder's term.

    One that does not replicate from that holder has never done so: a source is changed to the holder's only, and no
    other change follows in a term. What it acknowledged before is in what the term began with. Not so one that follows
    nobody and has a heartbeat of this term: its data were made anew, or somebody's hand took its replication away.
    """
    facts = view.facts_of(name)
    replication = facts.replication if facts else None
    received = replication is not None and replication.source == view.node(holder).address
    return not (received or _has_a_copy(view, name)) or _has_caught_up(view, name)


def _has_a_copy(view: View, name: NodeName) -> bool:
    """It follows nobody, and its data are of this term all the same: a copy of them, as a rebuild leaves behind.

    Heartbeats of a term come from one server only, so that it is the holder's history.
    """
    facts, record = view.facts_of(name), view.record
    if facts is None or record is None or name == record.holder or facts.replication is not None:
        return False
    return facts.heartbeat_term == record.term and not view.gone_astray(name)


def _follows(view: View, name: NodeName, source: NodeName) -> bool:
    facts = view.facts_of(name)
    replication = facts.replication if facts else None
    return replication is not None and replication.source == view.node(source).address and not replication.refused


def refused_by(view: View, name: NodeName, source: NodeName | None) -> bool:
    """`name` asked `source`, which does not know what `name` holds last."""
    facts = view.facts_of(name)
    replication = facts.replication if facts else None
    if source is None or replication is None:
        return False
    return replication.source == view.node(source).address and replication.refused


def _refused_heir(view: View, name: NodeName, record: Record) -> bool:
    """The holder's server took back in a crash what this one has: nothing that any client was told of.

    That it is the same history, its heartbeat shows: those of a term came from one server only.
    """
    facts = view.facts_of(name)
    of_term = facts is not None and facts.heartbeat_term >= view.written_term()
    return of_term and refused_by(view, name, record.holder) and not view.gone_astray(name)


def heirs_of(view: View, record: Record, positions: dict[NodeName, GtidSet]) -> set[NodeName]:
    """Whose history is the holder's: the holder, who follows it, and who has more of it than its server has left.

    Where it was lost before anybody had anything of its term (no position beyond the one it began with), nothing of
    that term was acknowledged, and the former holder and its followers have the same history up to there. Not where it
    may have acknowledged something by itself.
    """
    holder, former = record.holder, record.previous
    if holder is None:
        return set(positions)
    heirs = {
        name
        for name in positions
        if name == holder
        or _follows(view, name, holder)
        or _refused_heir(view, name, record)
        or _has_a_copy(view, name)
    }
    began = record.began
    if record.unproven or holder in positions or former is None or began is None:
        return heirs
    if not all(began.covers(positions[n]) for n in heirs):
        return heirs
    return heirs | {name for name in positions if name == former or _follows(view, name, former)}


def ahead_of_me(view: View) -> list[NodeName]:
    """Who has more of this term than this node, its holder."""
    record, mine = view.record, view.database
    if record is None or record.holder != view.me.name or mine is None:
        return []
    ahead = []
    for node in view.data_nodes:
        theirs = view.facts_of(node.name)
        if theirs is None or theirs.heartbeat_term != record.term or theirs.replication is None:
            continue
        if view.rebuilding(node.name):
            continue  # it could not take the role
        received = theirs.replication.source == view.me.address and not view.gone_astray(node.name)
        if received and not mine.position.covers(theirs.position):
            ahead.append(node.name)
    return ahead


def proof_missing(view: View, positions: dict[NodeName, GtidSet], handed: GtidSet | None) -> Rejected | None:
    """Whether what was heard proves where every acknowledged transaction is."""
    record = view.record
    if record is None or record.holder is None:
        return None
    if handed is not None or record.holder in positions:
        return None  # the holder itself said, or says, what it had
    if bounded.applies(view):
        return bounded.missing(view)
    if record.unproven:
        text = f"only {record.holder} itself can say what clients were told: {record.unproven}"
        return Rejected(view.me.name, "BLK_RPO_UNPROVEN", text)
    needed = len(view.data_nodes) - view.policy.acknowledgements
    proving = [name for name in positions if forgot_nothing(view, name, record.holder)]
    if len(proving) >= needed:
        return None
    text = (
        f"final positions of {needed} data nodes are needed to prove that nothing acknowledged is lost, "
        f"heard: {', '.join(proving) or 'none'}"
    )
    return Rejected(view.me.name, "BLK_RPO_UNPROVEN", text + not_counted([n for n in positions if n not in proving]))


def not_counted(forgetful: list[NodeName]) -> str:
    """The rest of a sentence on who was heard."""
    if not forgetful:
        return ""
    names = ", ".join(forgetful)
    return f" (not counted: {names}, whose database was started and has not caught up with a primary since)"
