"""`failoverctl config`: the file, what is in force of it, and how the one becomes the other.

failoverctl config check [FILE]     would a daemon start with it; no daemon is asked
failoverctl config show             what is in force, defaults filled in, secrets as ***
failoverctl config diff             the file against what is in force, and what a reload would do about it
failoverctl config reload           put in force what needs no restart (what `systemctl reload failoverd` runs)
failoverctl config schema           the file's shape as JSON Schema, for editors
"""

from __future__ import annotations

import json
import os
import socket as network
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, printed, unit_view
from failoverd.ctl.client import Client
from failoverd.ctl.exits import EPILOG, Exit
from failoverd.runtime.document import from_json
from failoverd.runtime.document_config import ReloadDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from failoverd.ctl.place import Place
    from failoverd.runtime.document_config import KeyChange

FILE = Path("/etc/failoverd/failoverd.yaml")
node_option = click.option(
    "-n",
    "--node",
    default=network.gethostname,
    metavar="NODE",
    shell_complete=options.nodes,
    help="Read it as this node does. Default: the host's name.",
)


@click.group(no_args_is_help=True)
def config() -> None:
    """Look at the configuration, and put a changed file in force."""


@config.command(epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path), default=FILE)
@node_option
def check(file: Path, node: str) -> Exit:
    """Read FILE as a node does and say whether a daemon would start with it. Touches nothing.

    As root of that node, also whether failoverd.service has the right to all that FILE names.
    """
    from failoverd.config import ConfigError, load  # noqa: PLC0415 - pydantic is slow to import and only needed here
    from failoverd.config.lines import noting_files  # noqa: PLC0415 - likewise

    try:
        with noting_files() as read:
            config = load(file, node)
    except ConfigError as error:
        click.echo(f"failoverctl: {error}", err=True)
        return Exit.FAILED
    if os.geteuid() == 0 and node == network.gethostname():
        # A draft may lie anywhere.
        found = [*unit_view.of_this_node(config, [path for path in read if path != file or file == FILE])]
        for words in found:
            click.echo(f"failoverctl: {words}; see systemd/README.md, where the daemon has to see more", err=True)
        if found:
            return Exit.FAILED
    click.echo(f"{file}: fit for {node}")
    return Exit.DONE


@config.command(epilog=EPILOG)
@options.socket
@options.output
def show(socket: Place, output: str) -> Exit:
    """Show the configuration that is in force in the daemon: every key, defaults filled in, secrets as ***."""
    code, body = Client(socket).get("/v1/config")
    if code != 200:
        return _not_understood(code, body)
    if output != "table":
        printed.document(body, output)
        return Exit.DONE
    document = json.loads(body)
    click.echo(f"# {document['path']}, as {document['node']} read it {printed.local(document['read'])}")
    click.echo(f"# digest {document['digest'][:16]}, of what all nodes agree on {document['membership'][:16]}")
    if document["refused"]:
        click.echo(f"# CONFIG_REFUSED: a newer file is not taken: {document['refused']}")
    import yaml  # noqa: PLC0415 - slow to import and only needed here

    click.echo(yaml.safe_dump(document["values"], sort_keys=False, allow_unicode=True, width=120), nl=False)
    return Exit.DONE


@config.command(epilog=EPILOG)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.socket
@options.output
def diff(file: Path | None, socket: Place, output: str) -> Exit:
    """Show what the daemon's file, or FILE, has otherwise than what is in force, and what a reload would do about it.

    Of another FILE secrets are not compared: the daemon shows nobody its own.
    """
    if file is None:
        code, body = Client(socket).get("/v1/config/diff")
        if code != 200:
            return _not_understood(code, body)
    else:
        code, body = Client(socket).get("/v1/config")
        if code != 200:
            return _not_understood(code, body)
        from failoverd.ctl.comparing import compared  # noqa: PLC0415 - pydantic is slow to import and only needed here

        body = compared(file, json.loads(body))
    document = from_json(ReloadDocument, body)
    if output != "table":
        printed.document(body, output)
    elif document.outcome != "refused":
        click.echo("\n".join(_lines(document)))
    if document.outcome == "refused":
        click.echo(f"failoverctl: {document.code}: {document.reason}", err=True)
        return Exit.FAILED
    return Exit.DONE


@config.command(epilog=EPILOG)
@options.socket
@options.output
def reload(socket: Place, output: str) -> Exit:
    """Let the daemon read its file again and put in force what needs no restart. Role, lease and gate stay.

    Ends with 3 where the file is not taken: the old configuration goes on then.
    """
    code, body = Client(socket).post("/v1/reload", {})
    if code != 200:
        return _not_understood(code, body)
    document = from_json(ReloadDocument, body)
    if output != "table":
        printed.document(body, output)
    elif document.outcome != "refused":
        click.echo("\n".join(_lines(document)))
    if document.outcome == "refused":
        click.echo(f"refused, nothing was touched: {document.code}\n  {document.reason}", err=True)
        return Exit.REFUSED
    return Exit.DONE


@config.command(epilog=EPILOG)
def schema() -> Exit:
    """Print the file's shape as JSON Schema (2020-12)."""
    from failoverd.config.schema import schema as made  # noqa: PLC0415 - pydantic is slow to import

    click.echo(json.dumps(made(), indent=2))
    return Exit.DONE


def _lines(document: ReloadDocument) -> Iterator[str]:
    reloaded = [change for change in document.changes if not change.restart]
    left = [change for change in document.changes if change.restart]
    if not document.changes:
        yield f"{document.path}: as in force"
        return
    if reloaded:
        yield {
            "applied": "In force now:" if document.asked else "A reload applies:",
            "waiting": "Taken; thresholds of these wait for the end of the change of primary:",
        }.get(document.outcome, "A reload applies:")
        yield from _table(reloaded)
    if left:
        yield "Needs a restart of failoverd:"
        yield from _table(left)


def _table(changes: Iterable[KeyChange]) -> Iterator[str]:
    for change in changes:
        yield f"  {change.key}  {change.old} -> {change.new}"
        if change.restart:
            yield f"    {change.restart}"
        if change.same_everywhere:
            yield "    must be the same on all nodes: until it is, those that are fewer neither vote nor take over"


def _not_understood(code: int, body: bytes) -> Exit:
    click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
    return Exit.FAILED
