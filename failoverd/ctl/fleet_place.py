"""`failoverctl fleet add`, `reader` and `remove`: a cluster's place in an etcd of many, shown before it is made.

Every statement is shown as etcdctl would have it: whoever keeps the etcd can read it, and do it without failoverd.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.ctl import setting_up
from failoverd.ctl.exits import Exit
from failoverd.ctl.fleet_asking import asked, config_option, store_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from failoverd.config.store import Store
    from failoverd.fleet.roles import Account, Standing, Statement
    from failoverd.setup.files import File

PASSWORD_BYTES = 24
PATIENCE_MS = 30_000  # a lease that would end later than that is taken for one that lives

passwords_option = click.option(
    "--passwords",
    type=click.Path(path_type=Path, file_okay=False),
    default="/etc/failoverd/fleet",
    show_default=True,
    metavar="DIR",
    help="Where the user's password is kept: a file of its name, mode 0600.",
)
new_password_option = click.option(
    "--new-password", is_flag=True, help="Give a user that is there already another password."
)


def _cluster(_: click.Context, __: click.Parameter, value: str) -> str:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - slow to import and only needed here

    from failoverd.config.values import Label  # noqa: PLC0415 - likewise

    try:
        return str(TypeAdapter(Label).validate_python(value))
    except ValidationError as error:
        told = error.errors()[0]["ctx"]
        raise click.BadParameter(f"{value!r} {told['problem']}; allowed: {told['allowed']}") from None


cluster_argument = click.argument("cluster", callback=_cluster)


@click.command()
@cluster_argument
@config_option
@passwords_option
@new_password_option
@setting_up.dry_run
@setting_up.yes
def add(cluster: str, config: Path, passwords: Path, *, new_password: bool, dry_run: bool, yes: bool) -> Exit:
    """Give CLUSTER a user and a role in etcd, which read and write its own keys, and reach nothing else.

    Needs etcd's root in the file, and authentication switched on. Can be run again: what is there already stays.
    """
    from failoverd.fleet import roles  # noqa: PLC0415 - pydantic and httpx are slow to import

    store = _of_root(config)
    account = roles.of_cluster(store.prefix, cluster)
    return _give(store, account, passwords / account.name, new_password=new_password, dry_run=dry_run, yes=yes)


@click.command()
@config_option
@passwords_option
@new_password_option
@setting_up.dry_run
@setting_up.yes
def reader(config: Path, passwords: Path, *, new_password: bool, dry_run: bool, yes: bool) -> Exit:
    """Make the user that `failoverctl fleet status` wants: it reads what all clusters have, and changes nothing."""
    from failoverd.fleet import roles  # noqa: PLC0415 - likewise

    store = _of_root(config)
    account = roles.of_fleet(store.prefix)
    return _give(store, account, passwords / account.name, new_password=new_password, dry_run=dry_run, yes=yes)


@click.command()
@cluster_argument
@config_option
@setting_up.dry_run
@setting_up.yes
def remove(cluster: str, config: Path, *, dry_run: bool, yes: bool) -> Exit:
    """Take CLUSTER out of etcd: its user, its role and its keys, its record among them.

    Refused while its lease is being renewed. Who is primary in which term is forgotten by that: a cluster that is to go
    on, in another store, is moved first.
    """
    from failoverd.fleet import granting, looking, roles  # noqa: PLC0415 - likewise
    from failoverd.runtime.clock import BootClock  # noqa: PLC0415 - likewise
    from failoverd.setup.refused import Refused  # noqa: PLC0415 - likewise

    store = _of_root(config)
    account = roles.of_cluster(store.prefix, cluster)
    click.echo(f"Looking whether {cluster} is alive.")
    found = asked(
        store,
        lambda link: looking.look(link, store.prefix, BootClock(), patience_ms=PATIENCE_MS, only=cluster.encode()),
    )
    if any(watched.may_live for watched in found):
        problem = next(watched.entry.problem for watched in found) or "its lease is being renewed, or has not ended yet"
        raise Refused("FLEET_ALIVE", cluster, problem, allowed="a cluster that nobody keeps any more")

    def planned(standing: Standing) -> list[Statement]:
        return list(roles.removal(account, standing))

    statements = planned(asked(store, lambda link: granting.standing(link, account)))
    keys = [roles.keys_removal(account)] if found else []
    if not statements and not keys:
        click.echo("nothing to change")
        return Exit.DONE
    ended = _confirmed((), (*statements, *keys), dry_run=dry_run, yes=yes)
    if ended is not None:
        return ended
    asked(store, lambda link: granting.carry_out(link, account, planned, _done))
    for statement in keys:
        asked(store, granting.saying(statement))
        _done(statement)
    return Exit.DONE


def _of_root(config: Path) -> Store:
    store = store_of(config)
    if store.user is None:
        words = "store: user is missing: without authentication no role keeps anybody from anything"
        raise click.UsageError(f"{config}: {words}; allowed: etcd's root, and its password_file")
    return store


def _give(store: Store, account: Account, path: Path, *, new_password: bool, dry_run: bool, yes: bool) -> Exit:
    """Make the account what it shall be, its password in `path` first. Raises Refused, UnreachableError, UsageError."""
    from failoverd.fleet import granting, roles  # noqa: PLC0415 - pydantic and httpx are slow to import
    from failoverd.setup import files  # noqa: PLC0415 - likewise
    from failoverd.setup.refused import Refused  # noqa: PLC0415 - likewise

    file, kept = _password_file(path)
    standing = asked(store, lambda link: granting.standing(link, account))
    changed: list[Statement] = []
    if standing.roles is not None:
        password = file.text.rstrip("\n")
        if not (
            kept
            and asked(
                store.model_copy(update={"user": None, "password": None}),
                lambda link: granting.is_password(link, account, password),
            )
        ):
            if not new_password:
                problem = f"is there, and {path} does not have its password" if kept else f"is there, and {path} is not"
                allowed = "the file with its password, or --new-password, after which the old one is of no use"
                raise Refused("FLEET_PASSWORD", f"user {account.name}", problem, allowed=allowed)
            changed.append(roles.new_password(account, password))

    def planned(found: Standing) -> list[Statement]:
        return [*roles.missing(account, found, file.text.rstrip("\n")), *changed]

    statements, missing = planned(standing), files.missing([file])
    if not statements and not missing:
        click.echo("nothing to change")
    else:
        ended = _confirmed(missing, statements, dry_run=dry_run, yes=yes)
        if ended is not None:
            return ended
        try:
            files.put(missing)  # before etcd has it: a password that nobody has is of no use
        except OSError as error:
            click.echo(f"failoverctl: {path}: {error.strerror}; etcd was not touched", err=True)
            return Exit.FAILED
        asked(store, lambda link: granting.carry_out(link, account, planned, _done))
    click.echo("\n".join(_afterwards(store, account, path)))
    return Exit.DONE


def _password_file(path: Path) -> tuple[File, bool]:
    """What the file has, or shall have; whether it is there. Raises UsageError where it cannot be read."""
    from failoverd.setup import files  # noqa: PLC0415 - likewise

    try:
        there = files.existing(path)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    content = there[0] if there is not None else f"{secrets.token_urlsafe(PASSWORD_BYTES)}\n".encode()
    return files.File(path, content, secret=True), there is not None


def _confirmed(files: Iterable[File], statements: Iterable[Statement], *, dry_run: bool, yes: bool) -> Exit | None:
    """Show all of it, and ask. None: it shall be done; else how to end. Raises UsageError where nobody can be asked."""
    for file in files:
        click.echo(f"Files:\n  new  {file.path}   secret, mode 0600")
    click.echo("etcd:")
    for statement in statements:
        click.echo(f"  {statement.shown}")
    if dry_run:
        click.echo("dry run: nothing was changed")
        return Exit.DONE
    if yes:
        return None
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is at a terminal to be asked: --yes says that you have read it")
    if click.confirm("Do it?"):
        return None
    click.echo("refused, nothing was touched: not confirmed", err=True)
    return Exit.REFUSED


def _done(statement: Statement) -> None:
    click.echo(f"  done  {statement.shown}")


def _afterwards(store: Store, account: Account, path: Path) -> Iterator[str]:
    """The section for whoever is to be that user."""
    endpoints = ", ".join(f'"{url}"' for url in store.endpoints or ())
    yield f"{path} has the password of {account.name}: copy it to /etc/failoverd/secrets/etcd, mode 0600, and there"
    yield "  store:"
    yield "    kind: etcd"
    yield f"    endpoints: [{endpoints}]"
    yield f"    ca: {store.ca}"
    if store.certificate is not None:
        yield "    certificate: /etc/failoverd/tls/etcd.pem   # without a CN: etcd's gateway refuses any other"
        yield "    key: /etc/failoverd/tls/etcd.key"
    yield f"    user: {account.name}"
    yield "    password_file: /etc/failoverd/secrets/etcd"
    if store.prefix != type(store).model_fields["prefix"].default:
        yield f"    prefix: {store.prefix}"
