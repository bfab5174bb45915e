"""`failoverctl fleet`: many clusters on one etcd.

failoverctl fleet status            all of them, the worst first
failoverctl fleet add CLUSTER       a user and a role in etcd, which reach that cluster's keys and nothing else
failoverctl fleet reader            the same for who may see all of them, and change nothing
failoverctl fleet remove CLUSTER    the way back, with the cluster's keys

No daemon is asked: etcd is, with the rights that /etc/failoverd/fleet.yaml gives. See failoverd/fleet/access.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from failoverd.ctl import fleet_place, options, printed
from failoverd.ctl.exits import EPILOG, Exit
from failoverd.ctl.fleet_asking import asked, config_option, store_of

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 10.0


@click.group(no_args_is_help=True)
def fleet() -> None:
    """See all clusters of one etcd, and give each its place there."""


@fleet.command(epilog=EPILOG)
@config_option
@click.option(
    "--for",
    "patience_s",
    type=click.FloatRange(0, 600),
    default=PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long a lease that is not being renewed is watched, at most.",
)
@options.output
@options.watch
def status(config: Path, patience_s: float, output: str) -> Exit:
    """Show all clusters, the worst first: who is primary, is its lease being renewed, what else is there to know.

    Ends with 0 where all are well, 1 where one has no primary, could not fail over or cannot be read, 6 where the worst
    is a pause or maintenance.
    """
    from failoverd.ctl import fleet_screen  # noqa: PLC0415 - rich, pydantic and httpx are slow to import
    from failoverd.fleet import looking, states  # noqa: PLC0415 - likewise
    from failoverd.runtime.clock import BootClock  # noqa: PLC0415 - likewise

    store = store_of(config)
    patience_ms = round(patience_s * 1000)
    found = asked(store, lambda link: looking.look(link, store.prefix, BootClock(), patience_ms=patience_ms))
    clusters, endpoints = states.fleet(found), store.endpoints or ()
    if output != "table":
        printed.document(fleet_screen.document(clusters, endpoints, store.prefix), output)
    else:
        printed.screen(lambda console: fleet_screen.draw(console, clusters, endpoints, store.prefix))
    if any(cluster.state in states.BAD for cluster in clusters):
        return Exit.FAILED
    return Exit.WARNINGS if any(cluster.state in states.ORDERED for cluster in clusters) else Exit.DONE


for command in (fleet_place.add, fleet_place.reader, fleet_place.remove):
    command.epilog = EPILOG
    fleet.add_command(command)
