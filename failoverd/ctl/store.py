"""`failoverctl store`: the store of term and lease, looked at from this node.

failoverctl store check [FILE]     every endpoint of etcd, and what would keep the cluster's store from it; no daemon
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, printed
from failoverd.ctl.config import FILE, node_option
from failoverd.ctl.exits import EPILOG, Exit

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.stores.etcd_look import Looked


@click.group(no_args_is_help=True)
def store() -> None:
    """Look at where term and lease are kept."""


@store.command(epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path), default=FILE)
@node_option
@options.output
@options.watch
def check(file: Path, node: str, output: str) -> Exit:
    """Ask each endpoint of etcd, as FILE has a node ask, and say what is wrong with it. Changes nothing there.

    TLS, login, rights, leader, alarms, room and how long it takes. Works before a daemon was ever started, and beside
    one. Ends with 0 when all is well, 1 when the store cannot be used, 6 when it can, and something is wrong still.
    """
    from failoverd.config import ConfigError, load  # noqa: PLC0415 - pydantic is slow to import and only needed here
    from failoverd.ctl import store_screen  # noqa: PLC0415 - likewise
    from failoverd.stores import etcd_look  # noqa: PLC0415 - likewise

    try:
        config = load(file, node)
    except ConfigError as error:
        click.echo(f"failoverctl: {error}", err=True)
        return Exit.FAILED
    if config.store.kind != "etcd":
        words = (
            f"kind {config.store.kind}: {config.store.node}'s own failoverd keeps it, and `failoverctl check` asks it"
        )
        raise click.UsageError(f"{file}: store: {words}; allowed: kind: etcd")
    try:
        looks = asyncio.run(_look(config))
    except OSError as error:
        click.echo(f"failoverctl: {file}: store: ca, certificate, key: {error}", err=True)
        return Exit.FAILED
    if output != "table":
        printed.document(store_screen.document(config, looks), output)
    else:
        for line in store_screen.lines(config, looks):
            printed.line(line)
    if not etcd_look.fit(looks):
        return Exit.FAILED
    return Exit.WARNINGS if etcd_look.troubles(looks) else Exit.DONE


async def _look(config: Config) -> tuple[Looked, ...]:
    from failoverd.runtime.storing import endpoints_of  # noqa: PLC0415 - likewise
    from failoverd.stores import etcd_look  # noqa: PLC0415 - likewise

    # A node asks the next endpoint where one has not answered in half of the time, a renewal's interval.
    slow_ms = config.lease.renew_ms / 2
    return await etcd_look.look(
        endpoints_of(config), cluster=config.cluster, prefix=config.store.prefix, slow_ms=slow_ms
    )
