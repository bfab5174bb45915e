"""`failoverctl join ARCHIVE`, on each of the other nodes: puts in place what `failoverctl init` has made for it.

failoverctl join mail2.join            shows what it would do, and asks
failoverctl join mail2.join --yes
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from failoverd.ctl import options, setting_up
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit, UnreachableError

STATE = Path("/var/lib/failoverd/term")
WAIT_S = 30.0  # for the daemon's first answer
ADOPTED_S = 8.0  # for a primary: the last data node that joins makes one; the others show whom they hear until then
LOOK_S = 0.2


@click.command()
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
@setting_up.no_start
@setting_up.dry_run
@setting_up.yes
@options.directory
@options.socket
def join(archive: Path, directory: Path, socket: Path, *, no_start: bool, dry_run: bool, yes: bool) -> Exit:
    """Make this host the node that ARCHIVE is for: configuration, certificate, secrets, units.

    Shows everything before it changes anything, and can be run again: what is there already stays. It does not move the
    role: failoverd adopts what runs.
    """
    from failoverd.setup import bundle, issued, joined, look, look_database, steps  # noqa: PLC0415 - slow to import
    from failoverd.setup.found import MailFound  # noqa: PLC0415 - likewise

    setting_up.needs_root()
    place = issued.Place(directory)
    given = bundle.read(archive)
    click.echo(f"{given.node} of {given.cluster}, {given.kind}. Looking at this host; nothing is changed by that.")
    found = look.host(MailFound(), "not asked")
    given = joined.fitted(given, found)
    try:
        config = joined.read(given, place)
        if given.kind == "data":
            found = replace(found, database=look_database.look(str(config.database.socket)))
        setting_up.warned(joined.warnings(given, found, config))
        if setting_up.refused(joined.blockers(given, found, place, config, seen_a_term=STATE.exists())):
            return Exit.REFUSED
        plan = joined.plan(given, place, () if no_start else steps.units(given.kind))
    except (OSError, ValueError) as error:
        click.echo(f"failoverctl: {error}\nrefused, nothing was touched", err=True)
        return Exit.REFUSED
    ended = setting_up.carried_out(plan, found, place.config, yes=yes, dry_run=dry_run)
    if ended is not None:
        return ended
    if no_start:
        return Exit.DONE
    return _seen(socket)


def _seen(socket: Path) -> Exit:
    """What the daemon says, as soon as the cluster has its primary, or the time for that is over."""
    from failoverd.ctl import table  # noqa: PLC0415 - rich is slow to import
    from failoverd.runtime.document import StatusDocument, from_json  # noqa: PLC0415 - likewise

    until, adopted_until = time.monotonic() + WAIT_S, time.monotonic() + ADOPTED_S
    while True:
        try:
            code, body = Client(socket).get("/v1/status")
        except UnreachableError as error:
            if time.monotonic() >= until:
                raise UnreachableError(f"{error}; all was put in place: `journalctl -u failoverd` says more") from None
            time.sleep(LOOK_S)
            continue
        if code != 200:
            click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
            return Exit.FAILED
        document = from_json(StatusDocument, body)
        if document.holder is not None or time.monotonic() >= adopted_until:
            table.show(document)
            return Exit.DONE
        time.sleep(LOOK_S)
