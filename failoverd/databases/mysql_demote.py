"""MySQL leaves the role: super_read_only, and an account that its source takes without TLS.

*super_read_only*, not read_only: accounts with CONNECTION_ADMIN or SUPER write in spite of the latter, and so does the
event scheduler, which is on by default: an event that ran on the primary is still enabled there when it is none any
more. (Events that came by replication are disabled on the replica until somebody enables them: after a change of
primary that is the administrator's to do.) ON brings read_only=ON with it; read_only=OFF takes both away.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.dialect import Account

# The default was 86400 and is 10 since 8.4: a source that is away for ten seconds would be given up.
RETRIES = 4294967295


def send_read_only(connection: Connection, deadline: Deadline, limit_s: float) -> None:
    """SET GLOBAL super_read_only = ON, which waits as MariaDB's read_only does (MySQL bug 96644).

    max_execution_time is for SELECT only. What the statement waits for are metadata locks, so lock_wait_timeout bounds
    it in the server, in whole seconds; the finer bound is the caller's, who kills it.
    """
    connection.run(deadline, f"SET SESSION lock_wait_timeout = {math.ceil(limit_s)}")
    connection.send(deadline, "SET GLOBAL super_read_only = ON")


def change_source(connection: Connection, deadline: Deadline, address: str, account: Account) -> None:
    """CHANGE REPLICATION SOURCE TO, by GTID.

    A former source needs nothing special: the replica asks for whatever is not in its own gtid_executed. Nor is it
    stopped from following when it holds more than the new source (see `mysql_promote`): the core looks before.

    GET_SOURCE_PUBLIC_KEY: an account with caching_sha2_password, MySQL's default, must give its password over TLS or
    encrypted with the source's key, and the receiver asks for that key only when told to. Where the administrator has
    set SOURCE_SSL=1 the key is not used; RESET REPLICA ALL forgets that setting with all others.
    """
    connection.run(
        deadline,
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_USER = %s, SOURCE_PASSWORD = %s, "
        "SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = %s, SOURCE_HEARTBEAT_PERIOD = 1, "
        "GET_SOURCE_PUBLIC_KEY = 1",
        *(address, account.port, account.user, account.password, RETRIES),
    )
