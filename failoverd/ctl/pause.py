"""`failoverctl pause` and `failoverctl resume`: nothing acts by itself while people work on the cluster.

Paused, the primary goes on serving and keeps its lease; a lost primary is not replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, request

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.ctl.exits import Exit


@click.command()
@click.option("-r", "--reason", required=True, metavar="TEXT", help="Why, for the record and for who looks next.")
@options.socket
def pause(reason: str, socket: Path) -> Exit:
    """Let nothing act by itself: no failover, no fencing, no restart of a service, no promotion.

    The primary goes on serving. A primary that is lost is not replaced before `failoverctl resume`.
    """
    return request.ask(
        socket,
        "/v1/pause",
        {"by": request.who(), "reason": reason},
        refused="the cluster cannot be paused now",
        done="paused; a lost primary is not replaced before `failoverctl resume`",
        failed="not known to be paused",
    )


@click.command()
@options.socket
def resume(socket: Path) -> Exit:
    """Let the cluster act by itself again."""
    return request.ask(
        socket,
        "/v1/resume",
        {"by": request.who()},
        refused="the cluster cannot be resumed now",
        done="the cluster acts by itself again",
        failed="not known to be resumed",
    )
