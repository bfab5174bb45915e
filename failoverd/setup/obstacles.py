"""Pure: what must, or should, be mended before a cluster is set up on what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.findings import SETTINGS, Severity
from failoverd.setup.found import DatabaseFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.setup.found import Found
    from failoverd.setup.propose import Cluster

# What several hosts may have mounted at one time, as `config.model` knows it, and what names itself otherwise.
SHARED = ("nfs", "ceph", "gluster", "fuse.", "gfs2", "ocfs2", "lustre", "beegfs", "cifs", "smb3")
OTHERS = ("keepalived.service", "pacemaker.service")


def blockers(found: Found, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Codes and words of what must be mended before anything is written."""
    if not cluster.me:
        addresses = ", ".join(entry.address for entry in found.addresses) or "none"
        words = f"this host has {addresses}, and no node of nodes; allowed: one of the nodes is this host"
        yield "SETUP_WRONG_HOST", words
    elif cluster.me != found.host:
        yield (
            "SETUP_WRONG_HOST",
            f"this host is called {found.host!r}, and has the address of {cluster.me}; allowed: one name",
        )
    if not isinstance(found.database, DatabaseFound):
        yield "SETUP_NOT_READY", f"database: {found.database}; allowed: a server that answers root on its socket"
        return
    yield from _database(found.database, cluster)


def _database(database: DatabaseFound, cluster: Cluster) -> Iterator[tuple[str, str]]:
    if database.source:
        yield "SETUP_NOT_READY", f"database: it replicates from {database.source}; allowed: the primary, run init there"
    elif database.read_only:
        yield "SETUP_NOT_READY", "database: read_only = ON; allowed: OFF, since the present primary takes writes"
    connected = {replica.address for replica in database.replicas}
    for name, address in cluster.nodes.items():
        if name != cluster.me and address not in connected and not database.source:
            seen = ", ".join(sorted(connected)) or "nobody"
            yield "SETUP_NOT_READY", f"{name}: {address} does not receive from this server; it sends to {seen}"
    yield from setting_blockers(database)


def warnings(found: Found, cluster: Cluster) -> Iterator[str]:
    """What a cluster can begin with, and should not stay with."""
    for unit in (cluster.imap.unit, cluster.smtp.unit, cluster.database_unit):
        if found.units and found.units.get(unit) != "active":
            yield f"{unit} is {found.units.get(unit, 'not there')}: services run on all data nodes, behind the gate"
    for unit in OTHERS:
        if found.units.get(unit) == "active":
            yield f"{unit} is active: whatever else moves the virtual IP must be off before failoverd is started"
    kind = found.mail.store_type
    if kind and not kind.startswith(SHARED):
        where = f"{cluster.mail_store} is on {kind}"
        yield f"{where}: `kind: shared` says that all data nodes have it (runbooks/mail-store.md)"
    if "mariadb-backup" not in found.programs:
        yield "there is no mariadb-backup here: a node that fell behind cannot be made anew (Debian: mariadb-backup)"
    if not cluster.queue:
        yield "mail in the queue of a lost primary waits for it: mynetworks has not all nodes, or a program is missing"
    if isinstance(found.database, DatabaseFound):
        yield from database_warnings(found.database)


def database_warnings(database: DatabaseFound) -> Iterator[str]:
    """The same of one database alone."""
    if database.acknowledge < len(database.replicas):
        yield f"{database.acknowledge} of {len(database.replicas)} replicas acknowledge: semi-sync is off on some"
    for code, reason in database.findings:
        if SETTINGS[code].severity is Severity.WARNS:
            yield f"{code}: {reason}; {SETTINGS[code].fix}"


def setting_blockers(database: DatabaseFound) -> Iterator[tuple[str, str]]:
    """Settings with which a failover would lose data, or break."""
    for code, reason in database.findings:
        if SETTINGS[code].severity is Severity.BLOCKS:
            yield code, f"{reason}: {SETTINGS[code].meaning}; {SETTINGS[code].fix}"
