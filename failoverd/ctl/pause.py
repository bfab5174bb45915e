"""`failoverctl pause` and `failoverctl resume`: nothing acts by itself while people work on the cluster.

Paused, the primary goes on serving and keeps its lease; a lost primary is not replaced. `--for` has the pause end by
itself, so that nobody has to remember it; `--wait` ends only when every node that is heard goes by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, request, when

if TYPE_CHECKING:
    from failoverd.ctl.exits import Exit
    from failoverd.ctl.place import Place

_wait = click.option(
    "--wait", is_flag=True, help="Until every node that is heard has seen it; names those that did not."
)


@click.command()
@click.option("-r", "--reason", required=True, metavar="TEXT", help="Why, for the record and for who looks next.")
@click.option(
    "--for", "for_ms", type=when.DURATION, default=0, metavar="DURATION", help="It ends by itself: 30m, 2h, 1d."
)
@_wait
@options.socket
def pause(reason: str, for_ms: int, *, wait: bool, socket: Place) -> Exit:
    """Let nothing act by itself: no failover, no fencing, no restart of a service, no promotion.

    The primary goes on serving. A primary that is lost is not replaced before `failoverctl resume`, or the end that
    --for gives. Paused already, it is paused in these words and for this long instead.
    """
    end = "its end or `failoverctl resume`" if for_ms else "`failoverctl resume`"
    return request.ask(
        socket,
        "/v1/pause",
        {"reason": reason, "for_ms": for_ms, "wait": wait},
        refused="the cluster cannot be paused now",
        done=f"paused; a lost primary is not replaced before {end}",
        failed="not known to be paused" + (" on every node that is heard" if wait else ""),
    )


@click.command()
@_wait
@options.socket
def resume(*, wait: bool, socket: Place) -> Exit:
    """Let the cluster act by itself again."""
    return request.ask(
        socket,
        "/v1/resume",
        {"wait": wait},
        refused="the cluster cannot be resumed now",
        done="the cluster acts by itself again",
        failed="not known to be resumed" + (" on every node that is heard" if wait else ""),
    )
