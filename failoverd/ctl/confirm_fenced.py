"""`failoverctl confirm-fenced`: a person's word that the lost primary has no power.

It opens a promotion before the lease ends, as a fence agent's confirmation does, and without any check that could find
it wrong. So it says in plain words what it does, asks for the node's name, and a program has to say `--yes`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, request
from failoverd.ctl.exits import Exit

if TYPE_CHECKING:
    from failoverd.ctl.place import Place

WARNING = """\
You are about to tell the cluster that {node} has no power.

A replica then takes over at once, without waiting until {node} has lost its lease.
If {node} still runs, there can be TWO PRIMARIES: both take mail and writes, and what one of them took is lost.
A host that hangs, does not answer or is cut off from the network has power.

Go on only if you have seen that it is off, and know that nothing switches it on again meanwhile.
"""


@click.command("confirm-fenced")
@click.option(
    "-n",
    "--node",
    required=True,
    metavar="NODE",
    shell_complete=options.nodes,
    help="The last primary, which has no power.",
)
@click.option("-r", "--reason", required=True, metavar="TEXT", help="How you know, for the record.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody is at a terminal.")
@options.socket
def confirm_fenced(node: str, reason: str, *, yes: bool, socket: Place) -> Exit:
    """Tell the cluster that NODE, the last primary, is off. If it is not, there can be two primaries.

    For a lost primary whose power no fence agent could cut. Refused while NODE answers, or is not the last primary.
    """
    click.echo(WARNING.format(node=node), err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is at a terminal to be asked: --yes says that you know what it does")
        if click.prompt("Type the node's name to go on", default="", show_default=False, err=True) != node:
            click.echo("refused, nothing was touched: that is not its name", err=True)
            return Exit.REFUSED
    return request.ask(
        socket,
        "/v1/confirm-fenced",
        {"node": node, "reason": reason},
        refused=f"the cluster does not take it that {node} has no power",
        done=f"the cluster goes on without {node}",
        failed=f"the cluster does not know that {node} has no power",
    )
