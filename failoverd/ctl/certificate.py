"""`failoverctl certificate`: what the cluster's own CA has signed, and what it is to sign next.

failoverctl certificate show                    all of this host, with the days that are left
failoverctl certificate renew                   what ends within 60 days, on its old key
failoverctl certificate issue mail4 --address 192.0.2.14      a new node's, on a new key
failoverctl certificate issue --operator anna   a person's who looks from elsewhere
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failoverd.ctl import options, printed
from failoverd.ctl.exits import EPILOG, Exit

if TYPE_CHECKING:
    from failoverd.setup.certificates import Shown
    from failoverd.setup.issued import Place

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


@click.group(no_args_is_help=True)
def certificate() -> None:
    """See, issue and renew the certificates of nodes and operators. The CA lies where `failoverctl init` was run."""


@certificate.command(epilog=EPILOG)
@click.argument("node", required=False, shell_complete=options.nodes)
@click.option("--address", default="", metavar="ADDRESS", help="The node's. Default: as the configuration has it.")
@click.option("--operator", default="", metavar="NAME", help="For a person instead of a node; lasts a year.")
@options.directory
def issue(node: str | None, address: str, operator: str, directory: Path) -> Exit:
    """Sign a new certificate on a new key, for NODE or for an operator."""
    from failoverd.setup import issued  # noqa: PLC0415 - cryptography is slow to import and only needed here

    place = issued.Place(directory)
    if bool(node) == bool(operator):
        raise click.UsageError("either NODE or --operator NAME")
    if operator and address:
        raise click.UsageError("--address is for a node: an operator may be anywhere")
    name = node or operator
    if NAME.fullmatch(name) is None:
        raise click.UsageError(f"{name!r} is no name; allowed: lower-case letters, digits, - and ., at most 63")
    members = _members(place)
    if operator in members:
        raise click.UsageError(f"{operator} is a node; allowed: a name of no node")
    if node:
        address = _literal(address or members.get(node, ""), node)
    certificate_, key = issued.issue(place, name, dt.datetime.now(dt.UTC), address=address)
    click.echo(f"{certificate_}\n{key}")
    if node:
        click.echo(
            f"On {node} they belong at {place.tls}/node.crt and node.key (mode 0600). Carry them with scp, and remove "
            f"{key} here."
        )
    else:
        click.echo(
            f"Hand {operator} both, and {place.authority}/ca.crt; then: failoverctl status --host NODE --certificate "
            f"{certificate_.name} --key {key.name} --ca ca.crt. The role comes from access.remote.people."
        )
    return Exit.DONE


@certificate.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=options.nodes)
@options.directory
def renew(names: tuple[str, ...], directory: Path) -> Exit:
    """Sign anew for each NAME, on its old key: what has to be carried is no secret.

    Without a name: all that end within 60 days. This host's own is put in place, and what has to be done for the others
    is printed.
    """
    from failoverd.setup import certificates, issued  # noqa: PLC0415 - likewise

    place, now = issued.Place(directory), dt.datetime.now(dt.UTC)
    if not names:
        issued.authority(place)
        signed = [(name, _read(place.issued(name))) for name in issued.names(place)]
        names = tuple(name for name, said in signed if said.ends - now <= certificates.RENEW_BEFORE)
        if not names:
            click.echo("nothing to renew: none ends within 60 days")
    for name in names:
        path = issued.renew(place, name, now)
        if issued.shown_here(place, name):
            click.echo(f"{name}: renewed, in place: {place.tls}/node.crt")
        elif _read(path).kind == "operator":
            click.echo(f"{name}: renewed, to be handed over: {path}")
        else:
            click.echo(f"{name}: renewed; now:\n{_carried(place, name, path)}")
    return Exit.DONE


@certificate.command(epilog=EPILOG)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
@options.directory
@options.output
def show(files: tuple[Path, ...], directory: Path, output: str) -> Exit:
    """Show what FILEs, or all certificates of this host, say: whose, by whom, for how many days."""
    from failoverd.setup import issued  # noqa: PLC0415 - likewise

    place, now = issued.Place(directory), dt.datetime.now(dt.UTC)
    found = files or tuple(
        path for path in (place.authority / "ca.crt", place.tls / "ca.crt", place.tls / "node.crt") if path.exists()
    ) + tuple(place.issued(name) for name in issued.names(place))
    if not found:
        click.echo(f"failoverctl: there is no certificate below {directory}", err=True)
        return Exit.FAILED
    said = [(path, _read(path)) for path in found]
    if output != "table":
        printed.document([_document(path, shown, now) for path, shown in said], output)
        return Exit.DONE
    for path, shown in said:
        left = shown.days(now)
        until = f"{left} days left, until {shown.ends:%Y-%m-%d}" if left >= 0 else f"ENDED on {shown.ends:%Y-%m-%d}"
        where = f" at {', '.join(shown.addresses)}" if shown.addresses else ""
        click.echo(path)
        printed.line(f"  {shown.kind} {shown.name}{where}, {until}")
        printed.line(f"  signed by {shown.issuer}")
        click.echo(f"  SHA-256 {shown.fingerprint}")
    return Exit.DONE


def _document(path: Path, shown: Shown, now: dt.datetime) -> dict[str, object]:
    return {
        "file": str(path), "kind": shown.kind, "name": shown.name, "addresses": list(shown.addresses),
        "issuer": shown.issuer, "ends": shown.ends.isoformat(), "days_left": shown.days(now),
        "sha256": shown.fingerprint,
    }  # fmt: skip


def _read(path: Path) -> Shown:
    from failoverd.setup import certificates  # noqa: PLC0415 - likewise
    from failoverd.setup.files import existing  # noqa: PLC0415 - likewise
    from failoverd.setup.refused import Refused  # noqa: PLC0415 - likewise

    try:
        found = existing(path)
    except OSError as error:
        raise Refused("SETUP_AUTHORITY", str(path), f"cannot be read: {error.strerror}") from None
    if found is None:
        raise Refused("SETUP_AUTHORITY", str(path), "is not there", allowed="a certificate as PEM")
    return certificates.shown(certificates.read_certificate(found[0], str(path)))


def _members(place: Place) -> dict[str, str]:
    """Each node's address, as the configuration has it; empty where there is none yet."""
    from failoverd.config import ConfigError  # noqa: PLC0415 - pydantic is slow to import
    from failoverd.config.lines import read_document  # noqa: PLC0415 - likewise

    if not place.config.exists():
        return {}
    try:
        nodes = read_document(place.config).data.get("nodes")
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    found = nodes.items() if isinstance(nodes, dict) else ()
    return {str(name): str(node.get("address", "")) for name, node in found if isinstance(node, dict)}


def _literal(address: str, node: str) -> str:
    import ipaddress  # noqa: PLC0415 - only needed here

    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError:
        found = f"{address!r} is no IPv4 address" if address else f"the configuration has no node {node}"
        raise click.UsageError(f"{found}; allowed: --address with a literal one, such as 192.0.2.14") from None


def _carried(place: Place, name: str, path: Path) -> str:
    """To a temporary name first: a daemon that looks meanwhile must not see half of it."""
    there = place.tls / "node.crt"
    return f"  scp {path} {name}:{there}.new && ssh {name} mv {there}.new {there}"
