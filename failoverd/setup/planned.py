"""The plan of `failoverctl init`: all files, statements and commands, less what is there already.

What was made once is kept: passwords, keys, certificates that are still good. Only so can it be run again without every
other node having to be joined anew.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from failoverd.setup import bundle, certificates, grants, staged, written
from failoverd.setup.bundle import Bundle
from failoverd.setup.certificates import Authority, Issued
from failoverd.setup.files import File, existing, missing
from failoverd.setup.look_mail import SYSTEM_CAS
from failoverd.setup.refused import Refused
from failoverd.setup.steps import Command, Plan

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from failoverd.setup.answers import Answers
    from failoverd.setup.issued import Place
    from failoverd.setup.propose import Cluster

PASSWORD_BYTES = 24  # 32 characters, the most that MySQL takes of a replica
BEFORE = ".before"


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that the nodes are given, made or found."""

    authority: Authority
    issued: Mapping[str, Issued]  # by node; the key is empty where only the node itself has it
    passwords: Mapping[str, str] = field(repr=False)
    mail_ca: bytes | None  # None: the system's own list is used
    config: str


def material(cluster: Cluster, answered: Answers, place: Place, now: dt.datetime) -> Material:
    """Find what there is, make what there is not; in memory. Raises Refused, OSError."""
    authority = Authority.read(place.authority) or _new_authority(cluster, place, now)
    issued = {
        name: _certificate(authority, place, name, address, now=now, here=name == cluster.me)
        for name, address in cluster.members.items()
    }
    given = {"canary": answered.canary_password, "replication": answered.replication_password, "database": None}
    passwords = {
        name: value.get_secret_value() if value is not None else _password(place.secrets / name)
        for name, value in given.items()
    }
    mail_ca = None if cluster.mail_ca == SYSTEM_CAS else _authorities(Path(cluster.mail_ca))
    where = cluster.mail_ca if mail_ca is None else str(place.tls / "mail-ca.crt")
    return Material(authority, issued, passwords, mail_ca, written.config(cluster, place, where))


def files(cluster: Cluster, made: Material, place: Place) -> tuple[tuple[File, ...], tuple[File, ...]]:
    """All files of this host: those that come first, and those that come when the rest is done."""
    bundles = {name: _bundle(cluster, made, name) for name in cluster.members}
    here = bundles.pop(cluster.me)
    own = here.files(place.directory)
    copies = (File(place.issued(name), issued.certificate) for name, issued in made.issued.items())
    archives = (
        File(place.archives / f"{name}.join", each.packed(), secret=True)
        for name, each in bundles.items()
        if made.issued[name].key
    )
    first = (*made.authority.files(place.authority), *(file for file in own if file.path != place.config))
    # A copy says that its key has gone to its node: it comes after the archive that has the key.
    return first, (*archives, *copies, *(file for file in own if file.path == place.config))


def check(cluster: Cluster, made: Material, place: Place) -> None:
    """Let the loader read the configuration as each node will. Raises ValueError, in its words."""
    for name in cluster.members:
        each = _bundle(cluster, made, name)
        issued = made.issued[name]
        if not issued.key:  # the node has it; any will do to be looked at
            contents = {**each.contents, bundle.KEY: b"-"}
            each = Bundle(each.cluster, each.node, each.address, each.kind, contents)
        staged.check(each.files(place.directory), place.directory, name)


def plan(
    cluster: Cluster,
    wanted: tuple[tuple[File, ...], tuple[File, ...]],
    place: Place,
    statements: tuple[grants.Statement, ...],
    commands: tuple[Command, ...],
) -> Plan:
    """What is missing. The configuration that is replaced is kept beside the new one."""
    first, last = (missing(group) for group in wanted)
    old = existing(place.config)
    if old is not None and any(file.path == place.config for file in last):
        last = (File(place.config.with_name(f"{place.config.name}{BEFORE}"), old[0]), *last)
    return Plan(first, cluster.socket, statements, last, commands)


def logins(cluster: Cluster, made: Material) -> tuple[grants.Login, tuple[grants.Login, ...]]:
    """The accounts that there shall be: failoverd's own, and the replicas'."""
    hosts = grants.hosts(cluster.nodes.values())
    replicas = tuple(grants.Login(cluster.replication_user, host, made.passwords["replication"]) for host in hosts)
    return grants.Login(grants.USER, "localhost", made.passwords["database"]), replicas


def take_vip(cluster: Cluster) -> Command:
    """The address that nobody has yet: failoverd adopts a primary that has it, and gives it to none by itself."""
    words = ("ip", "address", "add", cluster.vip, "dev", cluster.interface)
    return Command(words, "nobody has it yet, and failoverd adopts the primary that has it")


# ---- what is made once ------------------------------------------------------------------------------------------


def _new_authority(cluster: Cluster, place: Place, now: dt.datetime) -> Authority:
    """A new CA, unless this host is part of a cluster whose CA lies elsewhere."""
    if existing(place.tls / "ca.crt") is not None and existing(place.tls / "node.key") is not None:
        allowed = f"the host that has it, or its ca.crt put back as {place.authority}/ca.crt"
        raise Refused(
            "SETUP_AUTHORITY", str(place.tls / "ca.crt"), "was made elsewhere, and its CA is not here", allowed=allowed
        )
    return Authority.create(cluster.cluster, now)


def _certificate(
    authority: Authority, place: Place, name: str, address: str, *, now: dt.datetime, here: bool
) -> Issued:
    """The one that the node shows, or that waits in its archive; else what was issued; else a new one."""
    found = _here(place) if here else _waiting(place, name)
    if found is not None and certificates.fits(
        authority, found.certificate, found.key, name=name, address=address, now=now
    ):
        return found
    copy = existing(place.issued(name))
    if not here and found is None and copy is not None:
        kept = certificates.fits(authority, copy[0], None, name=name, address=address, now=now)
        if kept:
            return Issued(copy[0])  # its archive was carried away, and removed here
    return authority.node(name, address, now)


def _here(place: Place) -> Issued | None:
    certificate, key = existing(place.tls / "node.crt"), existing(place.tls / "node.key")
    return Issued(certificate[0], key[0]) if certificate is not None and key is not None else None


def _waiting(place: Place, name: str) -> Issued | None:
    path = place.archives / f"{name}.join"
    found = existing(path)
    if found is None:
        return None
    try:
        contents = bundle.unpacked(found[0], str(path)).contents
    except Refused:  # cut by whoever copied it there: it is made anew
        return None
    return Issued(contents[bundle.CERTIFICATE], contents[bundle.KEY])


def _password(path: Path) -> str:
    found = existing(path)
    if found is not None and found[0].strip():
        return found[0].decode().removesuffix("\n")
    return secrets.token_urlsafe(PASSWORD_BYTES)


def _authorities(path: Path) -> bytes:
    """The CAs of a file: those of it that have signed themselves, or all where there is none."""
    found = existing(path)
    try:
        chain = x509.load_pem_x509_certificates(found[0]) if found is not None else []
        roots = [each for each in chain if each.issuer == each.subject]
    except certificates.UNREADABLE:
        chain = []
    if not chain:
        raise Refused("SETUP_NOT_READY", f"mail_ca: {path}", "holds no certificate", allowed="certificates as PEM")
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in roots or chain)


def _bundle(cluster: Cluster, made: Material, name: str) -> Bundle:
    kind = "data" if name in cluster.nodes else "arbiter"
    issued = made.issued[name]
    contents = {
        bundle.CONFIG: made.config.encode(),
        bundle.CA: made.authority.pem,
        bundle.CERTIFICATE: issued.certificate,
        bundle.KEY: issued.key,
    }
    if made.mail_ca is not None:
        contents["tls/mail-ca.crt"] = made.mail_ca
    # The arbiter asks the mail services as a client does, and has no database.
    for secret in ("canary", "database", "replication") if kind == "data" else ("canary",):
        contents[f"secrets/{secret}"] = f"{made.passwords[secret]}\n".encode()
    return Bundle(cluster.cluster, name, cluster.members[name], kind, contents)
