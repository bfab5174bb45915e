"""The plan of `failoverctl join`: what one of the other nodes still lacks of its archive.

It is the right host where the host's name is the node's and the node's address is here; a data node must receive from
one of the others already. An interface of another name is put into the file of this node: it is none of what all nodes
must agree on.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from failoverd.setup import bundle, obstacles, staged
from failoverd.setup.files import File, existing, missing
from failoverd.setup.found import DatabaseFound
from failoverd.setup.planned import BEFORE
from failoverd.setup.refused import Refused
from failoverd.setup.steps import Plan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from failoverd.config import Config
    from failoverd.setup.bundle import Bundle
    from failoverd.setup.found import Found
    from failoverd.setup.issued import Place
    from failoverd.setup.steps import Command

_INTERFACE = re.compile(rb"^(vip: \{address: [^,]+, interface: )([^}]+)\}$", re.MULTILINE)


def fitted(given: Bundle, found: Found) -> Bundle:
    """With the interface that has the node's address here."""
    entry = found.address_of(given.address)
    if entry is None:
        return given
    interface = entry.interface.encode()
    config = _INTERFACE.sub(lambda line: line[1] + interface + b"}", given.contents[bundle.CONFIG])
    return replace(given, contents={**given.contents, bundle.CONFIG: config})


def read(given: Bundle, place: Place) -> Config:
    """Its configuration, as the loader reads it on this host. Raises ValueError, in its words; Refused.

    What the archive says of itself decides what is looked at before the node joins, so the configuration must agree.
    """
    config = staged.check(given.files(place.directory), place.directory, given.node)
    said = (given.cluster, given.address, given.kind)
    has = (config.cluster, config.this.address, config.this.kind.value)
    if said != has:
        words = f"is for {' '.join(said)}, and its {bundle.CONFIG} says {' '.join(has)}"
        raise Refused("SETUP_ARCHIVE", given.node, words, allowed="one that failoverctl init has made")
    return config


def blockers(
    given: Bundle, found: Found, place: Place, config: Config, *, seen_a_term: bool
) -> Iterator[tuple[str, str]]:
    """Codes and words of what must be mended first. `seen_a_term`: it has been a member already."""
    if found.host != given.node:
        words = f"the archive is for {given.node}, and this host is called {found.host!r}"
        yield "SETUP_WRONG_HOST", f"{words}; allowed: {given.node} (hostnamectl hostname {given.node})"
    if found.address_of(given.address) is None:
        here = ", ".join(entry.address for entry in found.addresses) or "none"
        yield (
            "SETUP_WRONG_HOST",
            f"{given.node} has {given.address}, and this host has {here}; allowed: its own archive",
        )
    ca = existing(place.tls / "ca.crt")
    if ca is not None and ca[0] != given.contents[bundle.CA]:
        words = f"{place.tls / 'ca.crt'}: this host belongs to another cluster, or to an earlier one of that name"
        yield "SETUP_ARCHIVE", f"{words}; allowed: none, or the CA of the archive"
    if given.kind == "data":
        others = {node.address for node in config.nodes.values() if node.name != given.node}
        yield from _database(found.database, others, seen_a_term=seen_a_term)


def _database(
    database: DatabaseFound | str, others: Collection[str], *, seen_a_term: bool
) -> Iterator[tuple[str, str]]:
    if not isinstance(database, DatabaseFound):
        yield "SETUP_NOT_READY", f"database: {database}; allowed: a server that answers root on its socket"
        return
    if not seen_a_term:
        if database.source not in others:
            words = f"it replicates from {database.source or 'nobody'}"
            yield (
                "SETUP_NOT_READY",
                f"database: {words}; allowed: a node's literal address, {', '.join(sorted(others))}",
            )
        elif not database.receiving:
            yield (
                "SETUP_NOT_READY",
                f"database: it does not receive from {database.source}; allowed: Slave_IO_Running: Yes",
            )
        if not database.read_only:
            yield "SETUP_NOT_READY", "database: read_only = OFF; allowed: ON, since it is a replica"
    yield from obstacles.setting_blockers(database)


def warnings(given: Bundle, found: Found, config: Config) -> Iterator[str]:
    """What should be mended soon."""
    if given.kind != "data":
        return
    for unit in (*(service.unit for service in config.services.values()), config.database.unit):
        if found.units and found.units.get(unit) != "active":
            yield f"{unit} is {found.units.get(unit, 'not there')}: services run on all data nodes, behind the gate"
    if not config.mail_store.moves and not config.mail_store.path.is_dir():
        yield f"{config.mail_store.path}: there is no such directory, and mail_store says that all data nodes have it"
    if "mariadb-backup" not in found.programs:
        yield "there is no mariadb-backup here: this node cannot give or take a copy (Debian: mariadb-backup)"
    if isinstance(found.database, DatabaseFound):
        yield from obstacles.database_warnings(found.database)


def plan(given: Bundle, place: Place, commands: tuple[Command, ...]) -> Plan:
    """What is missing; a configuration that is replaced is kept beside it."""
    files = given.files(place.directory)
    first = missing(file for file in files if file.path != place.config)
    last = missing(file for file in files if file.path == place.config)
    old = existing(place.config)
    if old is not None and last:
        last = (File(place.config.with_name(f"{place.config.name}{BEFORE}"), old[0]), *last)
    return Plan(first=first, last=last, commands=commands)
