"""`failoverctl status`: one screen, as the local daemon sees the cluster. See table.py for how it looks.

Where the daemon does not answer, what this host knows by itself (alone.py), and the cluster as another node sees it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, printed, source
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit, UnreachableError
from failoverd.runtime.document import StatusDocument, from_json

if TYPE_CHECKING:
    from failoverd.ctl.place import Place

ANSWER_S = 1.0  # a daemon that takes longer has lost its lease, or is about to: what the host says is worth more


@click.command()
@options.socket
@source.audit
@options.config_file
@options.output
@options.watch
def status(socket: Place, directory: Path, config: Path, output: str) -> Exit:
    """Show every node, who is primary under which lease, and whether it could fail over now, to whom or why not.

    Where the daemon does not answer (exit code 4): what this host knows by itself, and the cluster as another node that
    the configuration file names sees it.
    """
    try:
        code, body = Client(socket, ANSWER_S).get("/v1/status")
    except UnreachableError as error:
        if not isinstance(socket, Path):
            raise  # what this host knows by itself is of no node of that cluster
        click.echo(f"failoverctl: {error}", err=True)
        return _alone(socket, directory, config, output, str(error))
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


def _alone(socket: Path, directory: Path, config: Path, output: str, why: str) -> Exit:
    from failoverd.ctl import alone  # noqa: PLC0415 - not needed where the daemon answers

    found = alone.look(alone.Places(socket.parent, directory, config), why)
    if output != "table":
        printed.document(found.document(), output)
    else:
        from failoverd.ctl.alone_shown import show  # noqa: PLC0415 - rich, as above

        show(found)
    return Exit.UNREACHABLE
