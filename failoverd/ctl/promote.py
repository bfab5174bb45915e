"""`failoverctl promote`: a planned switchover, each step as it happens.

  0.000 s  mail2  asked: promote mail2 (root)
  0.214 s  mail1  gate closed
  ...
  0.731 s  mail2  proven through the VIP: imap, smtp
done: mail2 is primary
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, request

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.ctl.exits import Exit


@click.command()
@click.option("-n", "--node", required=True, metavar="NODE", help="The node that shall be primary.")
@click.option("-r", "--reason", default="", metavar="TEXT", help="Why, for the record.")
@options.socket
def promote(node: str, reason: str, socket: Path) -> Exit:
    """Hand the primary's role to NODE. Goes on in the daemon when this terminal closes.

    Refused with its blocker codes, and nothing touched, when NODE could not take over without loss.
    """
    return request.ask(
        socket,
        "/v1/promote",
        {"node": node, "by": request.who(), "reason": reason},
        refused=f"{node} cannot become primary now",
        done=f"{node} is primary",
        failed=f"{node} is not primary",
    )
