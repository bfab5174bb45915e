"""`failoverctl removable`: whether failoverd may be taken off this node. What the Debian package asks before it goes.

Files and kernel clock first: they tell the same whether a daemon runs or not. Only who keeps the store is asked of the
daemon, since a store that nobody serves keeps nobody in office.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd import drill_files, rebuild_files
from failoverd.ctl import options
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit, UnreachableError
from failoverd.runtime.clock import BootClock
from failoverd.runtime.document import StatusDocument, from_json
from failoverd.runtime.persist import LeaseFile, boot_id

if TYPE_CHECKING:
    from collections.abc import Iterator

# The last two are also what the package's own scripts say: systemd/debian/failoverd.preinst.
CODES = frozenset({"PKG_HOLDS_LEASE", "PKG_KEEPS_STORE", "PKG_BUSY", "PKG_FOREIGN"})
UNITS = Path("/run/systemd/system")
directory = click.Path(path_type=Path)


@click.command()
@options.socket
@click.option("--state", type=directory, default="/var/lib/failoverd", hidden=True)
@click.option("--runtime", type=directory, default="/run/failoverd", hidden=True)
@click.option("--units", type=directory, default=UNITS, hidden=True)
def removable(socket: Path, state: Path, runtime: Path, units: Path) -> Exit:
    """Say whether failoverd may be removed from this node; 3 and why not, where that would end or lose something."""
    found = [*_of_lease(runtime), *_of_store(socket), *_of_work(state, runtime, units)]
    for code, reason in found:
        click.echo(f"refused, nothing was touched: {code}: {reason}", err=True)
    if not found:
        click.echo("failoverd may be removed from this node")
    return Exit.REFUSED if found else Exit.DONE


def _of_lease(runtime: Path) -> Iterator[tuple[str, str]]:
    if not runtime.exists():
        return  # to look for a lease makes the directory where there is none
    noted = LeaseFile(runtime, boot_id()).noted()
    if noted and noted.held.deadline_ms > BootClock().now_ms():
        yield (
            "PKG_HOLDS_LEASE",
            f"this node is primary in term {noted.held.term}: move the role first (failoverctl promote --node OTHER)",
        )


def _of_store(socket: Path) -> Iterator[tuple[str, str]]:
    try:
        code, body = Client(socket).get("/v1/status")
    except UnreachableError:
        return
    status = from_json(StatusDocument, body) if code == 200 else None
    if status and status.store.node == status.node and status.lease.state in {"held", "condemned"}:
        yield (
            "PKG_KEEPS_STORE",
            f"this node keeps the store: without it nobody can take over from {status.holder} when that is lost",
        )


def _of_work(state: Path, runtime: Path, units: Path) -> Iterator[tuple[str, str]]:
    if (state / "rebuild/journal.json").exists() or rebuild_files.is_running(runtime):
        yield "PKG_BUSY", "a rebuild of this node's database is not finished: see failoverctl status"
    if (state / drill_files.DIRECTORY / drill_files.CURRENT).exists() or (units / drill_files.FAULT_UNIT).exists():
        yield "PKG_BUSY", "a drill is not finished here: failoverctl drill abort takes it back"
