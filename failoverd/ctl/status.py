"""`failoverctl status`: one screen, as the local daemon sees the cluster. See table.py for how it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, printed
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit
from failoverd.runtime.document import StatusDocument, from_json

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@options.socket
@options.output
@options.watch
def status(socket: Path, output: str) -> Exit:
    """Show every node, who is primary under which lease, and whether it could fail over now, to whom or why not."""
    code, body = Client(socket).get("/v1/status")
    if code != 200:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    if output != "table":
        printed.document(body, output)
        return Exit.DONE
    document = from_json(StatusDocument, body)
    from failoverd.ctl.table import show  # noqa: PLC0415 - rich is slow to import and only needed here

    show(document)
    return Exit.DONE
