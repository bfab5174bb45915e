"""`failoverctl alerts`: what has been told and is not over, what waits, and how each receiver took the last message.

mail3 warns   LAG_WARN  1000 ms behind mail1, the limit is 500 ms
              since 2026-11-28T19:04:11.301Z, told oncall
              page  runbooks/codes/LAG_WARN.md

Receiver  oncall   slack   0 waiting   last 2026-11-28T19:04:11.412Z taken (200)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, printed
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit
from failoverd.runtime.document import from_json
from failoverd.runtime.document_alerts import AlertsDocument, AlertTests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.ctl.place import Place
    from failoverd.runtime.document_alerts import OpenAlert, ReceiverStatus


@click.group(invoke_without_command=True)
@options.socket
@options.output
@click.pass_context
def alerts(context: click.Context, socket: Place, output: str) -> Exit:
    """Show the alerts that are open, what waits for each receiver, and what became of the last message to it.

    Ends with 0, with 6 when a receiver does not take messages, with 1 when this node cannot tell at all.
    """
    if context.invoked_subcommand is not None:
        context.obj = socket
        return Exit.DONE
    code, body = Client(socket).get("/v1/alerts")
    if code != 200:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    document = from_json(AlertsDocument, body)
    if output != "table":
        printed.document(body, output)
    else:
        click.echo("\n".join(_lines(document)))
    if document.problem:
        return Exit.FAILED
    return Exit.WARNINGS if any(receiver.trouble for receiver in document.receivers) else Exit.DONE


@alerts.command()
@click.argument("receiver", default="", metavar="[RECEIVER]")
@click.pass_obj
def test(socket: Place, receiver: str) -> Exit:
    """Send a test message from this node to RECEIVER, or to each, and say what became of it."""
    code, body = Client(socket).post("/v1/alerts/test", {"receiver": receiver})
    if code == 404:
        click.echo(f"failoverctl: {body.decode(errors='replace')}", err=True)
        return Exit.USAGE
    if code != 200:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    tests = from_json(AlertTests, body).tests
    for one in tests:
        click.echo(f"{one.receiver}: {'taken' if one.taken else f'NOT taken: {one.code}: {one.reason}'}")
    return Exit.DONE if all(one.taken for one in tests) else Exit.FAILED


def _lines(document: AlertsDocument) -> Iterator[str]:
    speaker = f"told by {document.speaker}" if document.speaker else "who tells is not known"
    yield f"{document.cluster}   {_count(len(document.open), 'alert')} open   {speaker}   seen from {document.node}"
    if document.problem:
        yield f"!  {document.node} cannot tell: {document.problem}"
    for alert in document.open:
        yield ""
        yield from _alert(alert)
    yield ""
    if not document.receivers:
        yield "Receivers  none: nobody is told (section alerts of the configuration)"
    for receiver in document.receivers:
        yield f"Receiver  {_receiver(receiver)}"
    if document.dropped:
        yield f"Dropped   {_count(document.dropped, 'message')} left out of a full queue: ALERTS_DROPPED"


def _alert(alert: OpenAlert) -> Iterator[str]:
    head = f"{alert.node or 'cluster'} {'BLOCKS' if alert.blocks else 'warns '}"
    told = ", ".join(alert.told) or "nobody yet"
    yield f"{head}  {alert.code}  {alert.reason}"
    yield f"{'':{len(head)}}  since {alert.since}, told {told}"
    yield f"{'':{len(head)}}  page  {alert.page}"


def _receiver(receiver: ReceiverStatus) -> str:
    last = receiver.last
    if last is None:
        said = "nothing was sent from here"
    else:
        answer = f" ({last.status})" if last.status else ""
        said = f"last {last.at} {'taken' if last.taken else f'NOT taken: {last.reason}'}{answer if last.taken else ''}"
    trouble = f"   {receiver.trouble}" if receiver.trouble else ""
    return f"{receiver.name}   {receiver.kind}   {receiver.queued} waiting   {said}{trouble}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
