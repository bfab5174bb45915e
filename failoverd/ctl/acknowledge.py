"""`failoverctl acknowledge`: a person knows why the role moved so often, and the next failover need not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, request

if TYPE_CHECKING:
    from failoverd.ctl.exits import Exit
    from failoverd.ctl.place import Place


@click.command()
@click.option("-r", "--reason", default="", metavar="TEXT", help="What it was, for the record.")
@options.socket
def acknowledge(reason: str, socket: Place) -> Exit:
    """End a block by changes of primary (BLK_FLAPPING, BLK_HOLD_OFF): those up to now do not count any more.

    Refused where none counts.
    """
    return request.ask(
        socket,
        "/v1/acknowledge",
        {"reason": reason},
        refused="there is nothing to acknowledge",
        done="acknowledged; the count of changes begins anew on every node",
        failed="not known to be acknowledged",
    )
