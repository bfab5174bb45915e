"""Reports that come late, twice or out of order, or that speak of a term that is over, or that nobody was given.

    number    of one run of a daemon grows by one: an older one is late, whatever delayed it
    process   another run's is taken where it was made after the former run's, or where that is silent
    term      the highest that its sender has read in the store, which is on its disk: it never goes back, and is never
              ahead of the store for long

The channel holds off replays of the network. This holds off a node that misbehaves, and a message that was delayed.

**Only the store gives terms.** A report of a newer one than was read here raises nothing, ends no lease and is written
nowhere: one node that is broken could otherwise depose every primary, and make every node refuse the store, for ever.
As long as such a report is fresh this node has not seen that any lease is over (`Tenure.newer_term`): either it is late
itself, or the store is an old copy, which must not take the cluster back, or the sender is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core.health import born_after_ms
from failoverd.core.model import Report
from failoverd.core.view import View


@dataclass(frozen=True, slots=True)
class Objection:
    """What is wrong with a report. `taken`: it counts all the same, but for its term.

    `code`: as what it is counted; "": also an honest node sends such a one.
    """

    reason: str
    code: str = ""
    taken: bool = False


REPLAY, TERM = "PEER_REPLAY", "PEER_TERM"


def untaken(view: View, report: Report) -> Objection | None:
    """Why `report` is not taken; None where it is."""
    before = next((known for known in view.reports if known.sender == report.sender), None)
    if before is None:
        stranger = report.sender == view.me.name or all(node.name != report.sender for node in view.nodes)
        return Objection(f"a report of {report.sender}, who is no other member") if stranger else None
    if before.process == report.process and report.number <= before.number:
        return Objection(f"report {report.number} came after report {before.number}", REPLAY)
    # Of another run of the daemon it may be less where nobody was given the former: whoever was wrong has been mended.
    if report.term < before.term and (report.process == before.process or before.term <= view.highest_term):
        return Objection(f"a report of term {report.term} came after one of term {before.term}", REPLAY)
    if before.process != report.process and report.sender in view.fresh:
        born = born_after_ms(report, view.me.name, view.sendings)
        former = born_after_ms(before, view.me.name, view.sendings)
        if born is None:
            return Objection("the first report of another run, which nothing bounds yet")
        if former is not None and born < former:
            return Objection("a report of an earlier run came after one of a later run", REPLAY)
    return None


def ungiven(view: View, report: Report, since_ms: int) -> Objection | None:
    """That the store has not given the term of a report, which its sender has told since `since_ms`; None: it may be.

    What was read of the store a whole lease later was asked for later: nobody waits that long for an answer.
    """
    heard_ms = view.store_heard_ms
    if report.term <= view.highest_term or heard_ms is None or heard_ms < since_ms + view.policy.ttl_ms:
        return None
    return Objection(f"it reports term {report.term}, and the store has given {view.highest_term}", TERM, taken=True)
