"""`failoverctl history`: the changes of primary, who or what made them, how long clients had none, and how they ended.

TIME                 CHANGE  KIND        FROM → TO       BY         OUTAGE   OUTCOME    REASON
2026-03-01 12:00:00  term-7  switchover  mail2 → mail1   anna       0.199 s  done       kernel update
2026-02-27 03:12:44  term-6  failover    mail1 → mail2   failoverd  2.741 s  done       a majority of observers has …

`history term-7` shows its phases as they overlapped, `--all` also what people asked for and how that ended: whoever's
terminal closed finds the request by its id.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, printed, source
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit, UnreachableError
from failoverd.runtime.document import from_json
from failoverd.runtime.document_history import HistoryDocument

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from failoverd.ctl.place import Place
    from failoverd.runtime.document_history import Change, PastEvent, Phase

STYLES = {"done": "green", "failed": "bold red", "refused": "yellow", "under-way": "bold yellow", "unknown": "dim"}
PHASE_STYLES = {"succeeded": "green", "failed": "bold red", "unknown": "yellow", "under-way": "yellow"}
BAR = 32  # columns of the timeline


@click.command()
@click.argument("event", required=False)
@click.option("-n", "--number", type=click.IntRange(1), default=10, show_default=True, help="How many, the newest.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also what was asked for, and pauses.")
@source.audit
@options.socket
@options.output
@options.watch
def history(event: str | None, number: int, *, everything: bool, directory: Path, socket: Place, output: str) -> Exit:
    """Show the newest changes of primary; of EVENT, a change (term-7) or a request's id, all that is known.

    Put together from what each node noted. Who could not be asked is named: its part is missing then. Where the daemon
    of this node does not run, its own audit is read.
    """
    try:
        code, body = Client(socket).get("/v1/history")
    except UnreachableError as error:
        code, body = 200, _alone(socket, directory, error)
    if code != 200:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    document = from_json(HistoryDocument, body)
    changes, events = document.changes[:number], document.events[:number] if everything else ()
    if event is not None:
        changes = tuple(change for change in document.changes if event in (change.id, change.request, str(change.term)))
        events = tuple(past for past in document.events if event == past.id)
        if not changes and not events:
            click.echo(f"failoverctl: no change or request {event!r} is known{_known(document)}", err=True)
            _say_unseen(document)
            return Exit.FAILED
    if output != "table":
        kept = {"changes": changes, "events": events}
        whole = json.loads(body)
        for name, of in kept.items():
            order = [index for index, one in enumerate(getattr(document, name)) if one in of]
            whole[name] = [whole[name][index] for index in order]
        printed.document(whole, output)
        return Exit.DONE
    if event is None:
        _list(document, changes, events, everything=everything)
    else:
        for change in changes:
            _show(change)
        for past in events:
            _show_event(past)
    _say_unseen(document)
    return Exit.DONE


def _alone(socket: Place, directory: Path, why: UnreachableError) -> bytes:
    """What this node's own audit says, where its daemon does not. Raises UnreachableError."""
    if not isinstance(socket, Path):
        raise why  # the audit here is of no node of that cluster
    try:
        source.readable(directory)
        node = str(next(source.records(directory, Path()), {}).get("node", ""))
    except OSError as error:
        raise UnreachableError(f"{why}; and {directory}: {error.strerror or error}") from None
    from pydantic import TypeAdapter  # noqa: PLC0415 - slow to import and only needed here

    from failoverd.runtime.history import alone  # noqa: PLC0415 - likewise

    click.echo(f"failoverctl: {why}; from this node's audit alone:", err=True)
    return TypeAdapter(HistoryDocument).dump_json(alone(directory, node))


def _known(document: HistoryDocument) -> str:
    if not document.changes:
        return ""
    return f"; changes are known from {document.changes[-1].id} to {document.changes[0].id}"


def _say_unseen(document: HistoryDocument) -> None:
    for reason in document.unseen:
        click.echo(f"not asked: {reason.node}  {reason.code}  {reason.reason}", err=True)


# ---- the list ---------------------------------------------------------------------------------------------------


def _list(
    document: HistoryDocument, changes: tuple[Change, ...], events: tuple[PastEvent, ...], *, everything: bool
) -> None:
    if not changes and not everything:
        click.echo("no change of primary is known")
        return
    from rich.text import Text  # noqa: PLC0415 - rich is slow to import and only needed here

    table = _table("TIME", "CHANGE", "KIND", "FROM → TO", "BY", "OUTAGE", "OUTCOME", "REASON")
    rows = [(change.began, _row(change)) for change in changes]
    rows += [(past.time, _event_row(past)) for past in events]
    for _, row in sorted(rows, key=lambda dated: dated[0], reverse=True):
        table.add_row(*row)
    head = Text(f"{document.cluster}   {len(document.changes)} changes of primary known   seen from {document.node}")
    printed.table(head, "", table)


def _table(*titles: str) -> Table:
    from rich.table import Table  # noqa: PLC0415 - likewise

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=title != "REASON", justify="right" if title == "OUTAGE" else "left")
    return table


def _styled(outcome: str) -> Text:
    from rich.text import Text  # noqa: PLC0415 - likewise

    return Text(outcome, STYLES.get(outcome, ""))


def _row(change: Change) -> list[str | Text]:
    outage = "" if change.kind == "adoption" else printed.seconds(change.outage_ms)
    return [
        printed.local(change.began),
        change.id,
        change.kind,
        _moved(change),
        change.by,
        outage,
        _styled(change.outcome),
        change.reason,
    ]


def _event_row(past: PastEvent) -> list[str | Text]:
    result = f": {past.result}" if past.result and past.result != past.text else ""
    return [
        printed.local(past.time),
        past.id,
        past.kind,
        f"on {past.node}",
        past.by,
        "",
        _styled(past.outcome),
        f"{past.text or 'asked on another node'}{result}",
    ]


def _moved(change: Change) -> str:
    return f"{change.previous or '-'} → {change.holder or '-'}"


# ---- one of them ------------------------------------------------------------------------------------------------


def _show(change: Change) -> None:
    from rich.text import Text  # noqa: PLC0415 - likewise

    head = Text.assemble((change.id, "bold"), f"  {change.kind}  {_moved(change)}  ", _styled(change.outcome))
    if change.kind != "adoption":
        head.append(f"  without a primary for {printed.seconds(change.outage_ms)}")
    asked = f" (request {change.request})" if change.request else ""
    printed.table(head)
    for name, words in (
        ("began", printed.local(change.began, precise=True)),
        ("ended", printed.local(change.ended, precise=True) if change.ended else "not known"),
        ("by", f"{change.by}{asked}"),
        ("reason", change.reason),
        ("rule", f"{change.rule}   runbooks/rules/{change.rule}.md"),
    ):
        click.echo(f"  {name:<7} {words}")
    if change.phases:
        click.echo("")
        printed.table(_timeline(change.phases))


def _timeline(phases: tuple[Phase, ...]) -> Table:
    """The phases of all nodes, each where it was in the whole."""
    from rich.text import Text  # noqa: PLC0415 - likewise

    last_ms = max(max(phase.began_ms, phase.ended_ms or 0) for phase in phases)
    table = _table("FROM", "TO", "NODE", "PHASE", "", "OUTCOME")
    for phase in phases:
        style = PHASE_STYLES.get(phase.outcome, "")
        begins, ends = (round(at * BAR / (last_ms or 1)) for at in (phase.began_ms, phase.ended_ms or last_ms))
        bar = " " * min(begins, BAR - 1) + "█" * max(1, ends - begins)
        said = "" if phase.outcome == "succeeded" else phase.outcome
        table.add_row(
            f"{phase.began_ms / 1000:.3f}",
            "" if phase.ended_ms is None else f"{phase.ended_ms / 1000:.3f}",
            phase.node,
            phase.name,
            Text(bar, style),
            Text(f"{said}  {phase.code}".strip(), style),
        )
    return table


def _show_event(past: PastEvent) -> None:
    click.echo(f"{past.kind} {past.id}  {past.text or 'asked on another node'}")
    for name, words in (
        ("asked", f"{printed.local(past.time, precise=True)} on {past.node}" + (f" by {past.by}" if past.by else "")),
        ("ended", printed.local(past.ended, precise=True) if past.ended else "not seen"),
        ("outcome", f"{past.outcome}{f': {past.result}' if past.result else ''}"),
        ("code", f"{past.code}   runbooks/codes/{past.code}.md" if past.code else ""),
    ):
        if words:
            click.echo(f"  {name:<7} {words}")
