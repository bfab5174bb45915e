"""MariaDB as its administrator lays it out: one data directory made once, copied to three servers, replicating.

The first primary's directory holds all accounts and tables, and the binary log that wrote them. A replica is a copy
of it, binary log included, that was told where it stands (`gtid_slave_pos`) and whom to follow. So every server can
serve any other from the first transaction on, as after years of good operation.

What makes a server the primary (writable, the semi-synchronous source) is set at run time and stands in no file: a
server that restarts is a read-only one until somebody who knows says otherwise.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from . import layout
from .layers import overlay, run_in_root
from .rootfiles import enable, render, write
from .shell import run

if TYPE_CHECKING:
    from pathlib import Path

GRANTS = tuple(layout.TREE / "config" / name for name in ("grants-mariadb.sql", "grants-drill-mariadb.sql"))
SOCKET = "/run/mysqld/mysqld.sock"
_SERVER = "mariadbd --user=mysql --skip-networking --skip-slave-start --read-only=OFF"
_SCRIPT = f"""
install -d -o mysql /run/mysqld
start() {{
  {_SERVER} "$@" >>/tmp/mariadbd.log 2>&1 &
  for i in $(seq 300); do mariadb-admin ping >/dev/null 2>&1 && return; sleep 0.1; done
  cat /tmp/mariadbd.log >&2; exit 1
}}
stop() {{ mariadb-admin shutdown; wait; }}
mariadb-install-db --user=mysql --datadir=/var/lib/mysql --skip-test-db \\
  --auth-root-authentication-method=socket >/dev/null
start
for file in grants schema users; do mariadb </provision/$file.sql; done
stop
cp -a /var/lib/mysql /var/lib/mysql-replica
start --datadir=/var/lib/mysql-replica
mariadb </provision/replica.sql
stop
"""
_REPLICA_SQL = f"""
SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos;
CHANGE MASTER TO
  MASTER_HOST = '{layout.ADDRESSES[layout.FIRST_PRIMARY]}', MASTER_PORT = 3306,
  MASTER_USER = '{layout.REPLICATION_USER}', MASTER_PASSWORD = '{layout.REPLICATION_PASSWORD}',
  MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 1;
"""
BECOME_PRIMARY = "SET GLOBAL rpl_semi_sync_master_enabled = ON; SET GLOBAL read_only = OFF;"


def build(place: Path, base_root: Path) -> None:
    """Fill the data nodes' directories of a data layer: configuration, unit and, but for the spare one, data."""
    for host in (*layout.DATA_NODES, layout.SPARE):
        _configure(place / host, host)
    first = place / layout.FIRST_PRIMARY
    write(first / "provision/schema.sql", (layout.FILES / "schema.sql").read_text())
    write(first / "provision/users.sql", _users_sql())
    write(first / "provision/grants.sql", _grants_sql())
    write(first / "provision/replica.sql", _REPLICA_SQL)
    with overlay([base_root], first) as root:
        run_in_root(root, _SCRIPT, timeout_s=180)
    shutil.rmtree(first / "provision")
    replica = first / "var/lib/mysql-replica"
    for host in layout.DATA_NODES:
        if host != layout.FIRST_PRIMARY:
            (place / host / "var/lib").mkdir(parents=True)
            run("cp", "-a", str(replica), str(place / host / "var/lib/mysql"))
    shutil.rmtree(replica)


def _configure(root: Path, host: str) -> None:
    server_id = layout.ADDRESSES[host].rsplit(".", 1)[1]
    write(root / "etc/mysql/mariadb.conf.d/90-mail.cnf", render("my.cnf", SERVER_ID=server_id))
    write(root / "etc/systemd/system/mariadb.service.d/10-mail.conf", render("mariadb.service.conf"))
    enable(root, "mariadb.service", where="/lib/systemd/system")


def _grants_sql() -> str:
    """Fill in the files that failoverd ships for administrators."""
    text = "\n".join(path.read_text() for path in GRANTS)
    values = {
        "PASSWORD": layout.DATABASE_PASSWORD,
        "REPLICATION_PASSWORD": layout.REPLICATION_PASSWORD,
        "REPLICATION_HOST": "10.89.1.%",
        "DRILL_PASSWORD": layout.DRILL_PASSWORD,
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _users_sql() -> str:
    def hashed(password: str) -> str:
        return "{SHA512-CRYPT}" + run("openssl", "passwd", "-6", "-salt", "failoverdlab", password).stdout.strip()

    passwords = {layout.CANARY: hashed(layout.CANARY_PASSWORD)}
    passwords |= dict.fromkeys((*layout.USERS, *layout.DRILL_USERS), hashed(layout.USER_PASSWORD))
    rows = ",\n".join(f"('{user}', '{layout.DOMAIN}', '{password}', 1)" for user, password in passwords.items())
    return f"INSERT INTO mail.users (email, domain, password, active) VALUES\n{rows};\n"
