"""MySQL becomes writable: behind the term's first heartbeat, and only where a crash takes nothing back.

*No number is used twice.* A MySQL server gives each of its transactions the smallest free number of its own uuid. Were
one lost in a crash that a replica has received, the same number would be given to another transaction, and that replica
would skip it without a word, taking it for what it has already. (It is noticed only where the replica reconnects before
the number is given again: "Replica has more GTIDs than the source has".)

A number far ahead, as for MariaDB, does not help: the next ones are the smallest free ones again, and fill the gap. To
fill it beforehand there is only gtid_purged, behind which no replica could attach any more. And tags (8.3) would have
to be set by every client. So it has to be kept from happening, and it can: with sync_binlog=1 a transaction is on disk
before any replica is sent it, and with innodb_flush_log_at_trx_commit=1 its preparation is too, so that recovery finds
both and commits it. A server that is set otherwise is not made writable (DB_NOT_DURABLE). What is left is a disk that
lies about what it has written, and a server that was restored from an older copy of itself: a rebuilt server must get
a new uuid (without its auto.cnf it makes one), which a rebuild has to see to.

So the crash of a source is the opposite of MariaDB's with init-rpl-role=SLAVE. It takes nothing back: what was in its
binary log and not acknowledged is *committed* when it starts again (MySQL bug 99370). That is right where it is still
the primary: its replicas get it now. Where another has become the primary meanwhile, that one may lack it: the old
primary holds something extra and is `needs-rejoin`. The core sees that in the holdings, while the server follows
nobody, as it does after a crash as the primary. It has to: a MySQL source looks at the numbers of its own uuid only and
lets a replica attach that holds more of anybody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.databases.connection import Failure
from failoverd.databases.promote import await_commit, send_first_beat

if TYPE_CHECKING:
    from failoverd.databases.connection import Connection, Deadline

DURABLE = "SELECT @@GLOBAL.sync_binlog AS sync_binlog, @@GLOBAL.innodb_flush_log_at_trx_commit AS flush_log"


def must_be_durable(connection: Connection, deadline: Deadline) -> None:
    """Raise DB_NOT_DURABLE where a crash could take back what is in the binary log."""
    values = connection.run(deadline, DURABLE)[0]
    if (values["sync_binlog"], values["flush_log"]) != (1, 1):
        words = "sync_binlog is {sync_binlog} and innodb_flush_log_at_trx_commit {flush_log}; both must be 1"
        raise Failure("DB_NOT_DURABLE", words.format(**values))


def make_writable(connection: Connection, deadline: Deadline, *, term: int) -> None:
    """Let super_read_only go, write the heartbeat, then let read_only go.

    read_only still keeps all clients out while the heartbeat is written: failoverd's account may write in spite of it
    (CONNECTION_ADMIN), in spite of super_read_only nobody may. Its answer is waited for, since gtid_executed does not
    show what is logged and not acknowledged; a replica that acknowledges was there a moment ago. Where the answer does
    not come the server is left as it is, closed to clients, and DB_NO_ACK is UNKNOWN: the next call writes the
    heartbeat again, behind the first.
    """
    must_be_durable(connection, deadline)
    connection.run(deadline, "SET GLOBAL super_read_only = OFF")
    send_first_beat(connection, deadline, term=term)
    await_commit(connection, deadline, f"the first heartbeat of term {term}")
    connection.run(deadline, "SET GLOBAL read_only = OFF")
