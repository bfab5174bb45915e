"""How a drill ended, in sentences that somebody understands who knows nothing of failoverd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.model import PROTOCOLS, PhaseName
from failoverd.drill.report.charts import at_fault
from failoverd.drill.report.words import duration, listed, moment, plural
from failoverd.drill.scenarios import SCENARIOS

if TYPE_CHECKING:
    from failoverd.drill.model import Report

WORDS = {
    "passed": "Passed",
    "failed": "Failed",
    "aborted": "Aborted",
    "skipped": "Skipped",
    "under-way": "Not ended",
}
KINDS = {"passed": "good", "failed": "bad", "aborted": "warn", "skipped": "off", "under-way": "unknown"}


def headline(report: Report) -> str:
    """One sentence: how it ended, and why where it did not pass."""
    drill = report.drill
    if drill.outcome == "passed":
        return f"Passed: all {len(report.objectives)} objectives were met."
    phase = next((phase.name.value for phase in drill.phases if phase.outcome in {"failed", "aborted"}), "")
    where = f" in the phase “{phase}”" if phase else ""
    why = f": {drill.reason}" if drill.reason else ""
    return f"{WORDS[drill.outcome]}{where}{why}".rstrip(".") + "."


def sentences(report: Report) -> list[str]:
    """What was practised, what clients saw, what was lost, and what is left of it."""
    return [_practised(report), _seen(report), _lost(report), _left(report)]


def _practised(report: Report) -> str:
    drill = report.drill
    scenario = SCENARIOS.get(drill.asked.scenario)  # one of a later version has none here
    about = f" ({scenario.about})" if scenario else ""
    who = "failoverd by its schedule" if drill.asked.scheduled else drill.asked.by
    words = f"On {moment(drill.began)} {who} began the drill “{drill.asked.scenario}”{about} on cluster {drill.cluster}"
    if drill.asked.reason:
        words += f", since “{drill.asked.reason}”"
    change = report.change
    if change is None:
        return f"{words}. No change of primary came of it."
    if change.holder is None:
        return f"{words}. {change.previous or 'Nobody'} was primary, and nobody is known to have taken over."
    return f"{words}. {change.holder} took over from {change.previous or 'nobody'} in term {change.term}."


def _seen(report: Report) -> str:
    if not report.points:
        return "No load was measured, so that it is not known what clients saw."
    gaps = at_fault(report)
    said = []
    for protocol in PROTOCOLS:
        longest = max((gap.until_ms - gap.from_ms for gap in gaps if gap.protocol == protocol), default=None)
        said.append(f"{protocol.upper()} for {duration(longest) if longest else 'less than half a second'}")
    sessions = max(point.sessions for point in report.points)
    return f"With {plural(sessions, 'user')} at work, clients were without {listed(said)}."


def _lost(report: Report) -> str:
    found = report.consistency
    if found is None:
        return "It was not compared afterwards, so that it is not known whether anything was lost."
    lost = plural(found.lost_count, "was", "were") if found.lost_count else "none was"
    twice = plural(found.twice_count, "is", "are") if found.twice_count else "none is"
    words = f"Of {plural(found.acknowledged, 'message')} that were acknowledged, {lost} lost and {twice} there twice"
    apart = [table.name for table in found.tables if not table.same]
    same = f"; {plural(len(found.tables), 'table')} and {plural(found.mailboxes, 'mailbox', 'mailboxes')} were compared"
    differ = [
        *([plural(len(apart), "table")] if apart else []),
        *([plural(len(found.mailboxes_differ), "mailbox", "mailboxes")] if found.mailboxes_differ else []),
    ]
    return f"{words}{same} on all nodes, {listed(differ) + ' differ' if differ else 'and are the same'}."


def fault_words(report: Report) -> str:
    """What was broken; "" where nothing was. The drill forgets a fault that is gone; its phase does not."""
    if report.drill.fault is not None:
        return report.drill.fault.words
    told = (phase.facts.get("fault", "") for phase in report.drill.phases if phase.name == PhaseName.INJECT)
    return str(next(told, ""))


def _left(report: Report) -> str:
    if report.drill.clean:
        fault = "The fault was taken away" if fault_words(report) else "No fault was brought about"
        return f"{fault}; nothing of the drill is left on any node."
    return "It is NOT known that the fault is gone from every node: failoverctl drill status says what is left."
