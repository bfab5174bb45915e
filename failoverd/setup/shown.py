"""A plan as text, before any of it is done: every file with what changes in it, every statement, every command."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from failoverd.setup.files import existing
from failoverd.setup.propose import ASKED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from failoverd.setup.files import File
    from failoverd.setup.issued import Place
    from failoverd.setup.planned import Material
    from failoverd.setup.propose import Cluster
    from failoverd.setup.steps import Plan

KEYS = tuple(asked.key for asked in ASKED)
WIDEST = 60  # characters of a value: longer ones only push aside what stands beside themselves


def cluster(proposed: Cluster) -> Iterator[str]:
    """Each value, and where it comes from."""
    values = {
        "nodes": " ".join(f"{name}={address}" for name, address in proposed.nodes.items()),
        "arbiter": "=".join(proposed.arbiter),
    }
    rows = [(key, values.get(key) or str(getattr(proposed, key)), proposed.sources.get(key, "")) for key in KEYS]
    rows += [
        ("imap", f"{proposed.imap.unit}, port {proposed.imap.port}, tls {proposed.imap.tls}", "found"),
        ("smtp", f"{proposed.smtp.unit}, port {proposed.smtp.port}, tls {proposed.smtp.tls}", "found"),
        ("database", f"{proposed.database_unit}, {proposed.socket}, {proposed.data or '?'}", "found"),
        ("gate", " ".join(map(str, proposed.ports)), "the ports of mail and database that are listened on"),
        ("queue", "postfix" if proposed.queue else "none", "found"),
    ]
    widest = max(len(value) for _, value, _ in rows if len(value) < WIDEST)
    for key, value, source in rows:
        yield f"  {key:<16}  {value:<{widest}}  {source}"


def plan(planned: Plan) -> Iterator[str]:
    """All of it, in the order in which it is done."""
    for title, lines in (
        ("Files", _files(planned.first)),
        ("SQL, on the database of this host (it replicates)", (f"  {each.shown};" for each in planned.statements)),
        ("Then", _files(planned.last)),
        ("Commands", (f"  {each}   # {each.why}" for each in planned.commands)),
    ):
        found = list(lines)
        if found:
            yield f"{title}:"
            yield from found


def _files(files: Iterable[File]) -> Iterator[str]:
    for file in files:
        old = existing(file.path)
        word = "new    " if old is None else "changed"
        yield f"  {word}  {file.path}{'   secret, mode 0600' if file.secret else ''}"
        if file.path.suffix == ".yaml":
            before = old[0].decode(errors="replace") if old is not None else ""
            yield from (f"      {line}" for line in _difference(before, file.text))


def _difference(old: str, new: str) -> Iterator[str]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "as it is", "as it shall be", lineterm="", n=1)
    yield from list(lines)[2:]


def afterwards(proposed: Cluster, made: Material, place: Place) -> Iterator[str]:
    """What is left to be done by hand: on the other nodes, the arbiter first."""
    arbiter, _ = proposed.arbiter
    others = [arbiter, *(name for name in proposed.nodes if name not in {proposed.me, arbiter})]
    yield "On the other nodes, with failoverd installed there, the arbiter first:"
    for name in others:
        address = proposed.members[name]
        if made.issued[name].key:
            archive = place.archives / f"{name}.join"
            yield f"  scp {archive} {address}: && ssh -t {address} failoverctl join {name}.join"
        else:
            yield f"  scp {place.config} {address}:{place.config}   # {name} has its certificate and its secrets"
    yield "Then `failoverctl status`: failoverd adopts what runs, and moves nothing."
    yield f"Keep {place.authority / 'ca.key'} offline; it is needed to sign again (failoverctl certificate)."
    yield f"Remove {place.archives} when all have joined: each archive there holds a key."


def canary(proposed: Cluster, place: Place) -> Iterator[str]:
    """The mailbox that the probes log in to: a user like any other, which only the administrator can make."""
    secret = place.secrets / "canary"
    yield f"The probes log in as {proposed.canary}, with the password in {secret}: make that mailbox as"
    yield "you make users, if it is not there. Its hash for Dovecot, without the password on a command line:"
    yield f"  cat {secret} {secret} | doveadm pw -s SHA512-CRYPT"
