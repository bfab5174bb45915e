"""Findings: what an operator should know of a node before the next failover needs it.

A finding is (code, reason) in a node's report, with the value found in the reason. Here is what is the same for each
code: how bad it is, what it means, and the way out in one line; its page in runbooks/ has the rest.

    BLOCKS  it would lose data, or break the next promotion: that node is no candidate (BLK_SETTINGS, BLK_ERRANT)
    WARNS   a failover works, and something is worse than it has to be
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from failoverd.core.model import Identity, NodeName


class Severity(Enum):
    """Whether a failover may rely on a node that has the finding."""

    BLOCKS = "blocks"
    WARNS = "warns"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is the same wherever a code is found."""

    severity: Severity
    meaning: str
    fix: str


_B, _W = Severity.BLOCKS, Severity.WARNS
_FILE = "in the server's configuration file"

# Of the database's settings. A dialect gives those that it knows.
SETTINGS: Mapping[str, Finding] = {
    "SET_SERVER_ID": Finding(
        _B,
        "two servers write under one id: their transactions cannot be told apart",
        f"give each server a server_id of its own {_FILE} and restart it",
    ),
    "SET_DOMAIN": Finding(
        _B,
        "the server would write in another GTID domain than the cluster: positions could not be compared",
        f"set gtid_domain_id to the primary's value, {_FILE} and by SET GLOBAL",
    ),
    "SET_FILTER": Finding(
        _B,
        "a replication filter leaves transactions out",
        f"remove the filter {_FILE}, restart the server, rebuild the node",
    ),
    "SET_BINLOG_OFF": Finding(
        _B,
        "the server keeps no binary log, so that nobody could replicate from it",
        f"set log_bin {_FILE}, restart the server, rebuild the node",
    ),
    "SET_REPLICA_UPDATES": Finding(
        _B,
        "what the server applies is not in its binary log: as primary it could not serve the other replica",
        f"set log_slave_updates = ON {_FILE}, restart the server, rebuild the node",
    ),
    "SET_BINLOG_STATEMENT": Finding(
        _B,
        "statements are replicated, and may give other rows on a replica",
        f"set binlog_format = ROW, {_FILE} and by SET GLOBAL; it holds for new sessions",
    ),
    "SET_BINLOG_MIXED": Finding(
        _W,
        "some statements are replicated as statements, where rows would be certain",
        f"set binlog_format = ROW, {_FILE} and by SET GLOBAL; it holds for new sessions",
    ),
    "SET_GTID_STRICT": Finding(
        _B,
        "the server accepts transactions out of order: a diverged history would go unnoticed",
        f"set gtid_strict_mode = ON, {_FILE} and by SET GLOBAL",
    ),
    "SET_SYNC_BINLOG": Finding(
        _B,
        "the binary log is not on disk when a client is told of its commit: a crash loses what was acknowledged",
        f"set sync_binlog = 1, {_FILE} and by SET GLOBAL",
    ),
    "SET_FLUSH_LOG": Finding(
        _B,
        "a commit is not on disk when a client is told of it: a crash loses what was acknowledged",
        f"set innodb_flush_log_at_trx_commit = 3 (or 1), {_FILE} and by SET GLOBAL",
    ),
    "SET_VERSION_TOO_OLD": Finding(
        _B,
        "the server is older than what failoverd can promote",
        "upgrade it: 10.11.14, 11.4.8 or newer",
    ),
    "SET_VERSION_HANGS": Finding(
        _W,
        "a semi-synchronous primary of this version may stop answering when a replica goes (MDEV-36934)",
        "upgrade it: 10.6.23, 10.11.14, 11.4.8 or newer",
    ),
    "SET_READ_ONLY_FILE": Finding(
        _B,
        "the server would be writable after a restart, whoever is primary then",
        f"add read_only = ON {_FILE}; no restart is needed",
    ),
    "SET_FILES_UNREAD": Finding(
        _W,
        "which files the server reads at its start could not be found out",
        "start the server by its own unit, without a proxy on its socket",
    ),
    "SET_INIT_ROLE": Finding(
        _W,
        "a crashed primary would commit what nobody acknowledged, and have to be rebuilt",
        f"add init_rpl_role = SLAVE {_FILE}; no restart is needed",
    ),
    "SET_SKIP_START": Finding(
        _W,
        "after a restart the replica acknowledges nothing until failoverd starts it",
        f"remove skip_slave_start {_FILE}",
    ),
    "SET_NET_TIMEOUT": Finding(
        _W,
        "a replica notices late that its source is silent",
        f"set slave_net_timeout = 4, {_FILE} and by SET GLOBAL",
    ),
    "SET_EVENT": Finding(
        _W,
        "an event runs on a replica and may write there",
        "ALTER EVENT ... DISABLE ON SLAVE on the replica, with SET SESSION sql_log_bin = 0",
    ),
    "SET_ENGINE": Finding(
        _W,
        "a table that knows no transactions loses writes in a crash, and may differ between nodes",
        "ALTER TABLE ... ENGINE=InnoDB on the primary",
    ),
    "SET_SEMI_SYNC": Finding(
        _B,
        "the server has no semi-synchronous replication: nothing it commits as primary would be acknowledged",
        f"install the server's semi-sync plugins {_FILE}",
    ),
    "SET_NO_ACK": Finding(
        _W,
        "the replica receives, and acknowledges nothing",
        f"set rpl_semi_sync_slave_enabled = ON {_FILE}; then STOP SLAVE IO_THREAD and START SLAVE IO_THREAD",
    ),
    "SET_REPLICATION_LOGIN": Finding(
        _B,
        "the source refuses the replication account",
        "make its password on the primary that of database.replication_password_file",
    ),
}

# What is worked out of more than one reading.
OTHERS: Mapping[str, Finding] = {
    "ERRANT": Finding(
        _B,
        "the database holds transactions that no primary wrote: they would be lost, or become everybody's",
        "save what they did and rebuild the node, or accept them",
    ),
    "LAG_WARN": Finding(
        _W,
        "the replica is behind: its promotion would take that much longer",
        "look for what holds its applier up: a long transaction, a slow disk",
    ),
    "LAG_ALARM": Finding(
        _W,
        "the replica is so far behind that it can hardly be handed the role",
        "look for what holds its applier up: a long transaction, a slow disk",
    ),
    "REJOIN_HELD": Finding(
        _W,
        "the node's database has to be made anew, and may be the only one with what clients were told",
        "look into what it has extra, then failoverctl rejoin",
    ),
    "RPO_BEYOND_BOUND": Finding(
        _B,
        "no replica is within the bound of what may be lost: a lost primary would be replaced by nobody",
        "bring a replica near: one that is away, or look for what holds its replication up",
    ),
    "STRANGER_ACKNOWLEDGES": Finding(
        _B,
        "a server that is no member acknowledges commits: what only it has would be lost with the primary",
        "on that server set rpl_semi_sync_slave_enabled = OFF and restart its receiver, or make it a member",
    ),
    "STORE_UNFENCED": Finding(
        _W,
        "two nodes that mount the mail store at once destroy it, and nothing can cut this node's power should it hang",
        "name a fence agent for it in fencing.nodes",
    ),
}

# What monitoring finds (core/monitoring.py): advice, and never a reason to move the role.
MONITORING: Mapping[str, Finding] = {
    "MON_LATENCY": Finding(
        _W,
        "a mail service takes long to answer: clients wait, and some give up",
        "look for what it waits for: its database, the mail store, too few processes, the network to the observer",
    ),
    "MON_AUTH_FAILURES": Finding(
        _W,
        "most logins fail: a wrong password somewhere, an attack, or users that the database does not know",
        "look at whose logins fail, and from where; ask the database for one of them with doveadm auth test",
    ),
    "MON_AUTH_SOURCE": Finding(
        _W,
        "one address fails to log in again and again: a device with an old password, or somebody who guesses",
        "find out whose it is; block it at the border if it is nobody's",
    ),
    "MON_POSTFIX_CPU": Finding(
        _W,
        "Postfix uses much of a processor core",
        "look at which of its programs it is, and at what is in the queue",
    ),
    "MON_MEMORY_GROWS": Finding(
        _W,
        "the memory of a mail process grows and never shrinks: it will end by being killed, or take others with it",
        "find the service and bound it (vsz_limit, service_count, max_use); restart it at a quiet hour",
    ),
    "MON_SLOW_QUERIES": Finding(
        _W,
        "statements take long in the database: mail services wait for it at each login and each recipient",
        "look at the slow query log, and at what runs now; add the index that is missing",
    ),
    "MON_NO_JOURNAL": Finding(
        _W,
        "the journal cannot be read: logins and deliveries are not counted",
        "let journald keep a journal on that node, or switch off what needs it in monitoring",
    ),
    "MON_NO_DOVEADM": Finding(
        _W,
        "Dovecot does not say who is logged in: IMAP connections are not counted",
        "try doveadm who on that node, or monitoring: {gauges: off}",
    ),
    "MON_NO_PROCESSES": Finding(
        _W,
        "the processes of the mail services cannot be looked at: their load and memory are not known",
        "look for processes that hang in the kernel on that node",
    ),
}

# Of drills that should have been (runtime/drills_due.py).
DRILLS: Mapping[str, Finding] = {
    "DRILL_OVERDUE": Finding(
        _W,
        "no drill has passed for longer than it should be: whether a failover still works is not known",
        "see failoverctl drill list for how the last ones ended; begin one: failoverctl drill run SCENARIO",
    ),
    "DRILL_SKIPPED": Finding(
        _W,
        "a drill was due and did not begin: what kept it might keep a failover",
        "bring in order what the reason names; failoverctl drill run SCENARIO --dry-run says whether that is gone",
    ),
}

# Of the audit (audit/reserve.py).
AUDIT: Mapping[str, Finding] = {
    "AUDIT_DISK_FULL": Finding(
        _B,
        "the disk of the audit is full: once its reserve is used up nothing is recorded, and nobody takes over there",
        "make room below audit.directory on that node; the reserve comes back by itself",
    ),
}

FINDINGS: Mapping[str, Finding] = {**SETTINGS, **OTHERS, **MONITORING, **DRILLS, **AUDIT}


def blocking(findings: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The first setting among a node's findings that keeps it from being promoted."""
    for code, reason in findings:
        found = SETTINGS.get(code)
        if found is not None and found.severity is Severity.BLOCKS:
            return code, reason
    return None


def compared(
    mine: Identity, others: Mapping[NodeName, Identity], holder: NodeName | None
) -> tuple[tuple[str, str], ...]:
    """What of this node's identity does not go with that of the others.

    What all must share is the primary's; who differs from it has the finding. Without one nobody is right.
    """
    found: list[tuple[str, str]] = []
    for name, other in sorted(others.items()):
        if mine.unique[1] and mine.unique == other.unique:
            key, value = mine.unique
            found.append(("SET_SERVER_ID", f"{key} = {value} is {name}'s as well; allowed: one of its own"))
    right = others.get(holder) if holder is not None else None
    if right is not None and mine.shared[1] and right.shared[1] and mine.shared != right.shared:
        key, value = mine.shared
        found.append(("SET_DOMAIN", f"{key} = {value}; allowed: {right.shared[1]}, as on {holder}"))
    return tuple(found)
