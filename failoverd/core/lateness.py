"""Reports that come late, twice or out of order, or that speak of a term that their sender has left behind.

    number    of one run of a daemon grows by one: an older one is late, whatever delayed it
    process   another run's is taken where it was made after the former run's, or where that is silent
    term      the highest that its sender has seen, which is on its disk: it never goes back

The channel holds off replays of the network. This holds off a node that misbehaves, and a message that was delayed.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core.health import born_after_ms
from failoverd.core.model import Report
from failoverd.core.view import View


@dataclass(frozen=True, slots=True)
class Untaken:
    """Why a report changes nothing. `replayed`: an honest node would not have sent it, or long ago."""

    reason: str
    replayed: bool


def untaken(view: View, report: Report) -> Untaken | None:
    """Why `report` is not taken; None where it is."""
    before = next((known for known in view.reports if known.sender == report.sender), None)
    if before is None:
        stranger = report.sender == view.me.name or all(node.name != report.sender for node in view.nodes)
        return Untaken(f"a report of {report.sender}, who is no other member", replayed=False) if stranger else None
    if before.process == report.process and report.number <= before.number:
        return Untaken(f"report {report.number} came after report {before.number}", replayed=True)
    if report.term < before.term:
        return Untaken(f"a report of term {report.term} came after one of term {before.term}", replayed=True)
    if before.process != report.process and report.sender in view.fresh:
        born = born_after_ms(report, view.me.name, view.sendings)
        former = born_after_ms(before, view.me.name, view.sendings)
        if born is None:
            return Untaken("the first report of another run, which nothing bounds yet", replayed=False)
        if former is not None and born < former:
            return Untaken("a report of an earlier run came after one of a later run", replayed=True)
    return None
