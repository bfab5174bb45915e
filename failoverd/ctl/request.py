"""A request to the daemon, and how it goes on: what promote, rejoin, confirm-fenced, pause and resume have in common.

The request belongs to the daemon as soon as it is accepted: this terminal only looks on. A look that breaks off is
taken up again from the first event on (those already shown are left out); one that cannot be ends with 5, not with a
guess.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit, UnclearError, UnreachableError
from failoverd.runtime.document import Event, Refused, from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failoverd.ctl.place import Place

UNSEEN = "REQUEST_UNSEEN"  # the daemon has seen no end of it
REJOIN_S = 10.0  # a daemon that is started again is back within a few seconds


def ask(
    socket: Place, path: str, document: Mapping[str, str | bool | int], *, refused: str, done: str, failed: str
) -> Exit:
    """Post `document` and look on until its end, which is said in the words given."""
    client = Client(socket)
    code, body = client.post(path, document)
    if code == 409:
        answer = from_json(Refused, body)
        _say_refused(refused, [(why.code, why.reason) for why in answer.reasons])
        if answer.last_resort:
            click.echo(f"last resort: {answer.last_resort}", err=True)
        return Exit.REFUSED
    if code != 202:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.USAGE if code == 400 else Exit.FAILED
    try:
        last = _look_on(client, str(json.loads(body)["id"]))
    except KeyboardInterrupt:
        click.echo("\nnot cancelled: it goes on in the daemon; ask `failoverctl status`", err=True)
        return Exit.UNCLEAR
    if last.refused:
        _say_refused(refused, [(last.code, last.text)])
        return Exit.REFUSED
    if last.code == UNSEEN:
        click.echo(f"not known: {failed}, as far as was seen; ask `failoverctl status`")
        return Exit.UNCLEAR
    click.echo(f"done: {done}" if last.succeeded else f"failed: {failed}")
    return Exit.DONE if last.succeeded else Exit.FAILED


def _say_refused(words: str, reasons: list[tuple[str, str]]) -> None:
    click.echo(f"refused, nothing was touched: {words}", err=True)
    for code, reason in reasons:
        click.echo(f"  {code}  {reason}", err=True)


def _look_on(client: Client, request: str) -> Event:
    """Show each event as it happens. Return the last one."""
    shown, broken_since = 0, None
    while True:
        began = time.monotonic()
        try:
            for index, line in enumerate(client.lines(f"/v1/requests/{request}/events")):
                if index < shown:
                    continue
                broken_since = None
                event = from_json(Event, line)
                shown = index + 1
                click.echo(_told(event))
                if event.final:
                    return event
        except LookupError as error:
            raise UnclearError(f"request {request}: {error}") from None
        except (UnreachableError, UnclearError) as error:
            broken_since = _broken(broken_since, began)
            if time.monotonic() - broken_since > REJOIN_S:
                raise UnclearError(str(error)) from error
        else:
            broken_since = _broken(broken_since, began)
            if time.monotonic() - broken_since > REJOIN_S:
                raise UnclearError(f"request {request}: its events ended without an end")
        time.sleep(0.2)


def _broken(since: float | None, began: float) -> float:
    """Since when nothing new has come and no look, the newest from `began`, has held for as long as one is waited for.

    One that only repeats what was shown and breaks off again must not go on for ever.
    """
    now = time.monotonic()
    return now if since is None or now - began > REJOIN_S else since


def _told(event: Event) -> str:
    code = f"  {event.code}" if event.code else ""
    return f"  {event.elapsed_ms / 1000:>8.3f} s  {event.node:<8}  {event.text}{code}"
