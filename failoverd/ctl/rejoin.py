"""`failoverctl rejoin`: a data node that cannot follow the primary comes home. What would be done is shown first.

mail1: it holds what mail2 lacks: 0-1:1004-1006
  1  at most 3 transactions that mail2 lacks are saved as SQL under /var/lib/failoverd/ahead on mail1
  2  the database of mail1 is made anew from mail3, and its old data are removed
Go on? [y/N]: y
    0.000 s  mail2     accepted: mail1 is made anew from mail3
    3.021 s  mail1     receive: 210 of 1040 MB, 104 MB/s, 7 s left
…
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from failoverd.ctl import options, request
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit
from failoverd.runtime.document import RejoinDocument, from_json

if TYPE_CHECKING:
    from failoverd.ctl.place import Place


@click.command()
@click.argument("node", shell_complete=options.nodes)
@click.option(
    "--from",
    "donor",
    default="",
    metavar="NODE",
    shell_complete=options.nodes,
    help="Whose data are copied. Default: the best replica.",
)
@click.option("--rebuild", is_flag=True, help="Make it anew also where it could follow as it is.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody is at a terminal.")
@options.socket
def rejoin(node: str, donor: str, *, rebuild: bool, yes: bool, socket: Place) -> Exit:
    """Bring NODE home: let it follow, or save what it has extra and make its database anew.

    Goes on in NODE's daemon when this terminal closes. Refused with its codes, and nothing touched, where it is not
    safe.
    """
    query = urlencode({"node": node, "donor": donor, "anew": str(rebuild).lower()})
    code, body = Client(socket).get(f"/v1/rejoin?{query}")
    if code != 200:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    plan = from_json(RejoinDocument, body)
    if not plan.refused:
        click.echo("\n".join(_shown(plan)))
        if plan.action == "rebuild" and not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("nobody is at a terminal to be asked: --yes says that you have read it")
            if not click.confirm("Go on?"):
                click.echo("refused, nothing was touched: not confirmed", err=True)
                return Exit.REFUSED
    return request.ask(
        socket,
        "/v1/rejoin",
        {"node": node, "donor": donor, "anew": rebuild},
        refused=f"{node} cannot be brought home now",
        done=f"{node} is home" if plan.action == "rebuild" else f"{node} follows {plan.holder}",
        failed=f"{node} is not home",
    )


def _shown(plan: RejoinDocument) -> list[str]:
    """What would be done, step by step."""
    if plan.action != "rebuild":
        does = "follows" if plan.action == "none" else "will follow"
        return [f"{plan.node} holds nothing that {plan.holder} lacks, and {does} {plan.holder} by itself"]
    extra = f"what {plan.holder} lacks is" if plan.transactions is None else _counted(plan.transactions, plan.holder)
    return [
        f"{plan.node}: {plan.reason}",
        f"  1  {extra} saved as SQL under {plan.ahead} on {plan.node}",
        f"  2  the database of {plan.node} is made anew from {plan.donor}, and its old data are removed",
        f"Until then {plan.node} acknowledges nothing and is no candidate.",
        *([f"{plan.donor} is the primary: its clients share its disks with the copy."] * (plan.donor == plan.holder)),
    ]


def _counted(transactions: int, holder: str) -> str:
    if not transactions:
        return f"by the numbers there is nothing that {holder} lacks; what is found in the files all the same is"
    return f"at most {transactions} transaction{'s' if transactions > 1 else ''} that {holder} lacks are"
