"""The one configuration file, as a person would have written it: what is needed, what differs, and why.

What has a default that fits is left out; config/failoverd.yaml and failoverd.yaml(5) have all keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from failoverd.setup.propose import HIGHEST, STEP

if TYPE_CHECKING:
    from failoverd.setup.issued import Place
    from failoverd.setup.propose import Cluster

USUAL_DATA, USUAL_BINLOG = "/var/lib/mysql", "mysqld-bin"


def config(cluster: Cluster, place: Place, mail_ca: str) -> str:
    """The file's text. `mail_ca` is where every node has the CA of the mail services."""
    names = [cluster.me, *(name for name in cluster.nodes if name != cluster.me)]
    priorities = {name: max(HIGHEST - STEP * index, 0) for index, name in enumerate(names)}
    data = "\n".join(
        f"  {_text(name)}: {{kind: data, address: {_text(address)}, priority: {priorities[name]}}}"
        for name, address in cluster.nodes.items()
    )
    arbiter, address = cluster.arbiter
    disks = list(dict.fromkeys(path for path in (cluster.data, cluster.mail_store) if path))
    parts = [
        f"""# failoverd: one file, the same on every node (failoverctl init). All keys: failoverctl man failoverd.yaml.
# After a change: the same on every node, `failoverctl config check`, `systemctl reload failoverd`.
cluster: {_text(cluster.cluster)}

# `priority` breaks a tie between equal replicas. The arbiter holds no mail: it votes, and keeps term and lease.
nodes:
{data}
  {_text(arbiter)}: {{kind: arbiter, address: {_text(address)}}}

# The one address that clients know.
vip: {{address: {_text(cluster.vip)}, interface: {_text(cluster.interface)}}}

store: {{kind: embedded, node: {_text(arbiter)}}}

# Between nodes: mutual TLS. failoverctl certificate shows and renews.
peer:
  ca: {_text(place.tls / "ca.crt")}
  certificate: {_text(place.tls / "node.crt")}
  key: {_text(place.tls / "node.key")}

# What clients use, as a client sees it: the canary logs in, and mail to it is accepted.
services:
  imap:
    unit: {_text(cluster.imap.unit)}
    port: {cluster.imap.port}
    tls: {cluster.imap.tls}
    ca: {_text(mail_ca)}
    server_name: {_text(cluster.server_name)}
    user: {_text(cluster.canary)}
    password_file: {_text(place.secrets / "canary")}
  smtp:
    unit: {_text(cluster.smtp.unit)}
    port: {cluster.smtp.port}
    tls: {cluster.smtp.tls}
""",
        ""
        if cluster.smtp.tls == "none"
        else f"""    ca: {_text(mail_ca)}
    server_name: {_text(cluster.server_name)}
""",
        f"""    recipient: {_text(cluster.canary)}

database:
  dialect: mariadb
  unit: {_text(cluster.database_unit)}
  socket: {_text(cluster.socket)}
  port: {cluster.port}
  user: failoverd
  password_file: {_text(place.secrets / "database")}
  replication_user: {_text(cluster.replication_user)}
  replication_password_file: {_text(place.secrets / "replication")}

# Closed to clients on every node that does not hold the lease.
gate: {{ports: [{", ".join(map(str, cluster.ports))}]}}

# All data nodes have it at all times. One that moves with the role: `mount` or `program`, see runbooks/mail-store.md.
mail_store: {{kind: shared, path: {_text(cluster.mail_store)}}}
""",
        """
# Mail in the queue of a node that is no primary is held, and handed on to the primary.
queue: {kind: postfix}
"""
        if cluster.queue
        else "",
        f"""
# What a full, hung or read-only disk is noticed by.
host: {{disks: [{", ".join(_text(path) for path in ["/", cluster.mail_store])}]}}
disks: {{write: [{", ".join(map(_text, disks))}]}}
""",
        _rebuild(cluster),
    ]
    return "".join(parts)


def _rebuild(cluster: Cluster) -> str:
    """Only where the server's files do not lie where the default has them."""
    found = {"data": cluster.data, "binlog": cluster.binlog}
    usual = {"data": USUAL_DATA, "binlog": USUAL_BINLOG}
    different = {key: value for key, value in found.items() if value and value != usual[key]}
    if not different:
        return ""
    inner = ", ".join(f"{key}: {_text(value)}" for key, value in different.items())
    return f"\n# Where the server's files lie, for a node that is made anew.\nrebuild: {{{inner}}}\n"


def _text(value: object) -> str:
    """A scalar, quoted where YAML would take it for something else, also inside of { } and [ ]."""
    dumped: str = yaml.safe_dump([str(value)], default_flow_style=True, width=10_000, allow_unicode=True)
    return dumped.strip()[1:-1]
