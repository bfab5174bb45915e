"""`failoverctl init`, on the present primary: looks at what runs, proposes, shows all of it, and writes when told to.

failoverctl init                                 asks what it cannot find out
failoverctl init --answers cluster.yaml --yes    asks nobody
failoverctl init --answers cluster.yaml --dry-run
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, setting_up
from failoverd.ctl.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.setup.answers import Answers
    from failoverd.setup.found import Found
    from failoverd.setup.propose import Cluster
    from failoverd.setup.steps import Command

STATE = Path("/var/lib/failoverd/term")  # a host that has seen a term takes no virtual IP by hand any more


@click.command()
@click.option(
    "--answers",
    "answers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="YAML with answers; its keys are the options below, with _ for -, and nodes and arbiter as mappings.",
)
@click.option("--cluster", metavar="NAME", help="The cluster's name.")
@click.option(
    "--nodes", metavar="'NAME=ADDRESS …'", help="The mail servers, this one among them; by literal addresses."
)
@click.option("--arbiter", metavar="NAME=ADDRESS", help="The machine that holds no mail, and votes.")
@click.option("--vip", metavar="ADDRESS/PREFIX", help="The one address that clients know.")
@click.option("--interface", metavar="NAME", help="The interface that has it. Default: that of this host's address.")
@click.option("--mail-store", metavar="PATH", help="Where the mail lies. Default: Dovecot's mail_location.")
@click.option(
    "--server-name", metavar="NAME", help="By which clients know the mail services. Default: the certificate's."
)
@click.option("--mail-ca", metavar="FILE", help="What verifies that certificate. Default: as found.")
@click.option("--canary", metavar="USER", help="The mailbox that the probes log in to.")
@click.option("--canary-password-file", metavar="FILE", help="Its password. Default: made at random.")
@click.option("--replication-user", metavar="NAME", help="For replicas. Default: failoverd_repl.")
@click.option("--replication-password-file", metavar="FILE", help="Its password. Default: made at random.")
@click.option("--database-socket", metavar="PATH", help="Where the database listens. Default: as found.")
@setting_up.no_start
@setting_up.dry_run
@setting_up.yes
@options.directory
def init(
    answers_file: Path | None, directory: Path, *, no_start: bool, dry_run: bool, yes: bool, **given: str | None
) -> Exit:
    """Set a cluster up, on its present primary: configuration, certificates, accounts, and an archive for each node.

    Shows everything before it changes anything, and can be run again: what is there already stays.
    """
    from failoverd.config import ConfigError  # noqa: PLC0415 - pydantic is slow to import and only needed here
    from failoverd.setup import answers, look, look_database, look_mail, propose  # noqa: PLC0415 - likewise

    setting_up.needs_root()
    try:
        answered = answers.read(answers_file) if answers_file is not None else answers.Answers()
        for key, text in given.items():
            if text is not None:
                answered = answered.with_others(_option(key, text))
    except ConfigError as error:
        click.echo(f"failoverctl: {error}", err=True)
        return Exit.REFUSED
    click.echo("Looking at this host; nothing is changed by that.")
    socket = look_database.socket_path(str(answered.database_socket or ""))
    found = look.host(look_mail.look(), look_database.look(socket))
    if setting_up.may_ask(yes=yes or dry_run):
        answered = _asked(found, answered)
    try:
        cluster = propose.settle(found, answered)
    except propose.MissingError as error:
        needed = "\n".join(f"  --{key.replace('_', '-')}  {hint}" for key, hint in error.keys.items())
        raise click.UsageError(f"neither answered nor found out (options, or keys of --answers):\n{needed}") from None
    except ValueError as error:  # what was found is none, such as a host's name that no node can have
        raise click.UsageError(f"found out, and not usable: {error}; answer it by an option or in --answers") from None
    return _set_up(found, answered, cluster, directory, no_start=no_start, dry_run=dry_run, yes=yes)


def _option(key: str, text: str) -> Answers:
    from failoverd.setup import propose  # noqa: PLC0415 - likewise

    try:
        return propose.parsed(key, text)
    except ValueError as error:
        raise click.UsageError(f"--{key.replace('_', '-')}: {error}") from None


def _asked(found: Found, answered: Answers) -> Answers:
    """Ask for each key that was not answered, with what was found as its default."""
    from failoverd.setup import propose  # noqa: PLC0415 - likewise

    while (asked := next(propose.unanswered(answered), None)) is not None:
        default, source = asked.default(found, answered)
        click.echo(f"# {source}" if source else "")
        text = click.prompt(asked.question, default=default or None, type=str)
        try:
            answered = answered.with_others(propose.parsed(asked.key, text.strip()))
        except ValueError as error:
            click.echo(f"  {error}", err=True)
    return answered


def _set_up(
    found: Found, answered: Answers, cluster: Cluster, directory: Path, *, no_start: bool, dry_run: bool, yes: bool
) -> Exit:
    from failoverd.databases.connection import Failure  # noqa: PLC0415 - likewise
    from failoverd.setup import grants, issued, look_database, obstacles, planned, shown, steps  # noqa: PLC0415 - likewise
    from failoverd.setup.found import DatabaseFound  # noqa: PLC0415 - likewise

    click.echo("\n".join(shown.cluster(cluster)))
    setting_up.warned(obstacles.warnings(found, cluster))
    if setting_up.refused([*obstacles.blockers(found, cluster), *_holders(found, cluster)]):
        return Exit.REFUSED
    place = issued.Place(directory)
    try:
        made = planned.material(cluster, answered, place, dt.datetime.now(dt.UTC))
        planned.check(cluster, made, place)
        local, replicas = planned.logins(cluster, made)
        connected = found.database.accounts if isinstance(found.database, DatabaseFound) else frozenset()
        with look_database.session(cluster.socket) as connection:
            statements = grants.missing(connection, local=local, replicas=replicas, connected=connected)
        commands = [] if no_start else [*_vip(found, cluster), *steps.units("data")]
        plan = planned.plan(cluster, planned.files(cluster, made, place), place, statements, tuple(commands))
    except (OSError, ValueError, Failure) as error:
        click.echo(f"failoverctl: {error}\nrefused, nothing was touched", err=True)
        return Exit.REFUSED
    ended = setting_up.carried_out(plan, found, place.config, yes=yes, dry_run=dry_run)
    if ended is not None:
        return ended
    click.echo()
    if answered.canary_password is None:
        click.echo("\n".join(shown.canary(cluster, place)))
    click.echo("\n".join(shown.afterwards(cluster, made, place)))
    return Exit.DONE


def _holders(found: Found, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Who else answers for the address that is to be the virtual IP."""
    from failoverd.setup import look  # noqa: PLC0415 - likewise

    address = cluster.vip.partition("/")[0]
    if address in cluster.members.values() or not any(each.interface == cluster.interface for each in found.addresses):
        return  # the configuration's own checks say that better
    try:
        others = look.holders(cluster.interface, address)
    except OSError as error:
        click.echo(f"  ! whether somebody has {address} already could not be asked: {error.strerror}")
        return
    if others:
        words = f"vip: {address}: {', '.join(others)} answers for it on {cluster.interface}"
        yield "SETUP_VIP_TAKEN", f"{words}; allowed: an address that only this host has, or nobody"


def _vip(found: Found, cluster: Cluster) -> Iterator[Command]:
    from failoverd.setup import planned  # noqa: PLC0415 - likewise

    if found.address_of(cluster.vip.partition("/")[0]) is None and not STATE.exists():
        yield planned.take_vip(cluster)
