"""`failoverctl version`: of this tool, and of the daemon when it can be asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from failoverd import __version__
from failoverd.ctl import options, printed
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit, UnreachableError

if TYPE_CHECKING:
    from failoverd.ctl.place import Place


@click.command()
@options.socket
@options.output
def version(socket: Place, output: str) -> Exit:
    """Print the versions of failoverctl and of the local failoverd; 0 also when that does not run."""
    daemon, node, why = None, None, ""
    try:
        code, body = Client(socket).get("/v1/version")
    except UnreachableError as error:
        why = str(error)
    else:
        told = json.loads(body) if code == 200 else {}
        daemon, node, why = told.get("software"), told.get("node"), f"answered {code}"
    if output != "table":
        printed.document({"failoverctl": __version__, "failoverd": daemon, "node": node}, output)
    else:
        click.echo(f"failoverctl {__version__}")
        click.echo(f"failoverd   {daemon} on {node}" if daemon else f"failoverd   not known: {why}")
    return Exit.DONE
