"""What stands below the nodes: can it fail over, to whom or why not, what can be lost, and why it does what it does.

Failover  possible, to mail2
Afford    without mail2, mail3 or arbiter  the primary serves on, and could still be replaced
Now       primary-serves: the lease is held and the services answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from failoverd.ctl import when
from failoverd.ctl.durations import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.runtime.document import BoundStatus, ScheduledStatus, StatusDocument


def columns() -> Table:
    """A table without a frame or titles, whose first column is never folded."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    return grid


def answers(document: StatusDocument) -> Table:
    """A row an answer; what goes without saying has none."""
    grid = columns()
    if document.paused:
        paused = Text.assemble(
            (f"by {document.paused}", "bold yellow"),
            f", until {when.shown_iso(document.paused_until)}" if document.paused_until else "",
            "  (nothing acts by itself: failoverctl resume)",
        )
        grid.add_row(Text("Paused", "bold yellow"), paused)
    if document.unproven:
        grid.add_row(Text("RPO", "bold red"), Text.assemble(("UNPROVEN", "bold red"), f"  {document.unproven}"))
    if document.bound is not None:
        grid.add_row(Text("RPO", "dim"), _bound(document.bound))
    _failover(grid, document)
    for words in _afford(document):
        grid.add_row(Text("Afford", "dim"), words)
    grid.add_row(Text("Now", "dim"), Text(f"{document.rule.id}: {document.rule.why}"))
    for node in document.nodes:
        if node.rebuild is not None and node.rebuild.under_way:
            grid.add_row(Text("Rebuild", "bold yellow"), Text(f"{node.name}  {node.rebuild.words}", "bold"))
    _ordered(grid, document)
    if document.request is not None:
        request = document.request
        why = f', "{request.reason}"' if request.reason else ""
        step = f": {request.text}" if request.text else ""
        grid.add_row(Text("Request", "dim"), Text(f"promote {request.target} (by {request.by}{why}){step}", "bold"))
    return grid


def _failover(grid: Table, document: StatusDocument) -> None:
    failover = document.failover
    if failover.possible:
        verdict = Text.assemble(("possible", "green"), f", to {failover.candidate}")
    else:
        verdict = Text("NOT possible now", "bold red")
    grid.add_row(Text("Failover", "dim"), verdict)
    for blocker in failover.blockers:
        grid.add_row("", Text.assemble((blocker.code, "yellow"), f"  {blocker.reason}"))
    for reason in failover.rejected:
        grid.add_row("", Text.assemble(f"not {reason.node}  ", (reason.code, "yellow"), f"  {reason.reason}"))


def _ordered(grid: Table, document: StatusDocument) -> None:
    """What operators have ordered, and what ends by itself or is still to come."""
    for node in document.nodes:
        if node.maintenance is not None:
            known = node.maintenance
            until = f", until {when.shown_iso(known.until)}" if known.until else ""
            words = Text.assemble((node.name, "yellow"), f"  by {known.by}: {known.reason}{until}")
            grid.add_row(Text("Maintenance", "yellow"), words)
    if document.scheduled is not None:
        grid.add_row(Text("Scheduled", "yellow"), _scheduled(document.scheduled))


def _scheduled(scheduled: ScheduledStatus) -> Text:
    why = f', "{scheduled.reason}"' if scheduled.reason else ""
    text = Text(f"promote {scheduled.target} at {when.shown_iso(scheduled.at)} (by {scheduled.by}{why})")
    if scheduled.unfit is not None:
        text.append(f"  as it is now it would be dropped: {scheduled.unfit.code} {scheduled.unfit.reason}", "yellow")
    return text


def _afford(document: StatusDocument) -> Iterator[Text]:
    """What can be lost besides the primary, and what that would cost; nothing where nobody serves."""
    if not any(loss.serves for loss in document.afford):
        return
    kinds = (
        (True, True, "", "the primary serves on, and could still be replaced"),
        (True, False, "", "the primary serves on, and could not be replaced until it is back"),
        (False, True, "yellow", "the primary could not go on, and another takes over"),
        (False, False, "bold red", "clients would wait until it is back"),
    )
    for serves, replaceable, style, words in kinds:
        named = [loss.node for loss in document.afford if (loss.serves, loss.replaceable) == (serves, replaceable)]
        if named:
            text = ", ".join(named[:-1]) + (" or " if named[:-1] else "") + named[-1]
            yield Text.assemble((f"without {text}", style), f"  {words}")


def _bound(bound: BoundStatus) -> Text:
    text = Text(f"bounded {duration(bound.limit_ms)}")
    if bound.nearest is not None and bound.lag_ms is not None:
        text.append(f"  {bound.nearest} is {duration(bound.lag_ms)} behind", "dim")
    if not bound.within:
        text.append("  no replica is within it", "bold red")
    return text
