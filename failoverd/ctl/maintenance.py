"""`failoverctl maintenance NODE on|off`: a node is worked on, and that is no news.

It does not become primary, is not rebuilt by itself, and its findings raise no alert. It follows and acknowledges as
long as it can, and what it holds counts in proving that nothing is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, request, when

if TYPE_CHECKING:
    from failoverd.ctl.exits import Exit
    from failoverd.ctl.place import Place


@click.command()
@click.argument("node", shell_complete=options.nodes)
@click.argument("switch", metavar="on|off", type=click.Choice(["on", "off"]))
@click.option("-r", "--reason", default="", metavar="TEXT", help="Why, for the record and for who looks next.")
@click.option(
    "--for", "for_ms", type=when.DURATION, default=0, metavar="DURATION", help="It ends by itself: 30m, 2h, 1d."
)
@options.socket
def maintenance(node: str, switch: str, reason: str, for_ms: int, socket: Place) -> Exit:
    """Say that NODE is worked on, or that this has ended. `on` needs a reason; once more, it says it anew.

    Refused for the primary: move the role first, failoverctl promote. A node that becomes primary all the same (it was
    on its way) is in maintenance no more.
    """
    on = switch == "on"
    if on and not reason.strip():
        raise click.UsageError('--reason "…" is needed: whoever looks next sees it')
    if not on and for_ms:
        raise click.UsageError("--for goes with `on`")
    return request.ask(
        socket,
        "/v1/maintenance",
        {"node": node, "on": on, "reason": reason, "for_ms": for_ms},
        refused=f"maintenance of {node} cannot {'begin' if on else 'end'} now",
        done=f"{node} is no candidate, and raises no alert" if on else f"{node} counts as any other",
        failed=f"maintenance of {node} is not known to have {'begun' if on else 'ended'}",
    )
