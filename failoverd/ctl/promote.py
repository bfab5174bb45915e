"""`failoverctl promote`: a planned switchover, each step as it happens.

The request belongs to the daemon as soon as it is accepted: this terminal only looks on. A look that breaks off is
taken up again from the first event on (those already shown are left out); one that cannot be ends with 5, not with a
guess.

      0.000 s  mail2  asked: promote mail2 (root)
      0.214 s  mail1  gate closed
      ...
      0.731 s  mail2  proven through the VIP: imap, smtp
    done: mail2 is primary
"""

from __future__ import annotations

import getpass
import json
import os
import time
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit, UnclearError, UnreachableError
from failoverd.runtime.document import Event, Refused, from_json

if TYPE_CHECKING:
    from pathlib import Path

REJOIN_S = 10.0  # a daemon that is started again is back within a few seconds


@click.command()
@click.option("-n", "--node", required=True, metavar="NODE", help="The node that shall be primary.")
@click.option("-r", "--reason", default="", metavar="TEXT", help="Why, for the record.")
@options.socket
def promote(node: str, reason: str, socket: Path) -> Exit:
    """Hand the primary's role to NODE. Goes on in the daemon when this terminal closes.

    Refused with its blocker codes, and nothing touched, when NODE could not take over without loss.
    """
    client = Client(socket)
    code, body = client.post("/v1/promote", {"node": node, "by": _who(), "reason": reason})
    if code == 409:
        click.echo(f"refused, nothing was touched: {node} cannot become primary now", err=True)
        for why in from_json(Refused, body).reasons:
            click.echo(f"  {why.code}  {why.reason}", err=True)
        return Exit.REFUSED
    if code != 202:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.USAGE if code == 400 else Exit.FAILED
    try:
        return _look_on(client, node, str(json.loads(body)["id"]))
    except KeyboardInterrupt:
        click.echo("\nnot cancelled: it goes on in the daemon; ask `failoverctl status`", err=True)
        return Exit.UNCLEAR


def _look_on(client: Client, node: str, request: str) -> Exit:
    shown, broken_since = 0, None
    while True:
        try:
            for index, line in enumerate(client.lines(f"/v1/requests/{request}/events")):
                broken_since = None
                if index < shown:
                    continue
                event = from_json(Event, line)
                shown = index + 1
                click.echo(_told(event))
                if event.final:
                    return _ended(event, node)
        except LookupError as error:
            raise UnclearError(f"request {request}: {error}") from None
        except (UnreachableError, UnclearError) as error:
            broken_since = broken_since or time.monotonic()
            if time.monotonic() - broken_since > REJOIN_S:
                raise UnclearError(str(error)) from error
        else:
            broken_since = broken_since or time.monotonic()
            if time.monotonic() - broken_since > REJOIN_S:
                raise UnclearError(f"request {request}: its events ended without an end")
        time.sleep(0.2)


def _ended(event: Event, node: str) -> Exit:
    if event.refused:
        click.echo(f"refused, nothing was touched: {node} cannot become primary now", err=True)
        click.echo(f"  {event.code}  {event.text}", err=True)
        return Exit.REFUSED
    click.echo(f"done: {node} is primary" if event.succeeded else f"failed: {node} is not primary")
    return Exit.DONE if event.succeeded else Exit.FAILED


def _told(event: Event) -> str:
    code = f"  {event.code}" if event.code else ""
    return f"  {event.elapsed_ms / 1000:>8.3f} s  {event.node:<8}  {event.text}{code}"


def _who() -> str:
    """Who is at the keyboard, also behind sudo."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
