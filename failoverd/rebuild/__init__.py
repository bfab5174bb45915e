"""A data node's database made anew from another node's: two programs, no part of the daemon.

`failoverd rebuild` runs on the node that is rebuilt, `failoverd donor` waits on the others. The daemon starts the first
(failoverctl rejoin, or by a rule of the core), or a person; nothing here decides that a node is to be rebuilt.

A node that has acknowledged a transaction is a witness of it: who is promoted hangs on its word. So its receiver is
stopped before the copy is made, and the copy must hold all that the primary had by then: what was acknowledged here is
in the new data, whatever becomes of the primary meanwhile. Whatever else the node has is saved.

    donor (mail3)                                rebuild (mail1, fenced)
      who is primary? ─────── every node ──────>   refuse, or
                                                   save what this node has and the primary lacks       ahead
      mariadb-backup ── mutual TLS, frames ────>   mbstream, prepare, start once in private            transfer, private
                                                   stop MariaDB, change the directories, start it      journal, switch
                                                   the daemon makes it follow

protocol   the frames between both       local    questions to this node's server     programs  how MariaDB's are run
binlog     what a binary log holds       journal  the stages, and what is durable         progress  for who looks on
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every code that the two programs can give. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "REBUILD_IS_PRIMARY": "the node holds the lease, or its database is writable",
    "REBUILD_LOCAL_DATABASE": "the node's own server runs and could not be asked",
    "REBUILD_RUNNING": "another rebuild is at work on this node",
    "REBUILD_DATA": "the data directory is not as a rebuild needs it",
    "REBUILD_NO_PRIMARY": "no other node, or more than one, has a writable database",
    "REBUILD_NO_DONOR": "the donor could not be reached",
    "REBUILD_STRANGER": "the donor does not know the node that asks",
    "REBUILD_FROM_PRIMARY": "the donor is the primary, and was not asked for as such",
    "REBUILD_DONOR_UNFIT": "the donor does not follow the primary, or holds what the primary lacks",
    "REBUILD_BUSY": "the donor already serves another node",
    "REBUILD_VERSION": "the donor's server and this node's are of different versions",
    "REBUILD_NO_SPACE": "the backup does not fit on this node's disk",
    "REBUILD_BACKUP_FAILED": "mariadb-backup failed on the donor",
    "REBUILD_OUTDATED": "the copy lacks what this node has, or holds what the primary lacks: it is made anew",
    "REBUILD_STOPPED": "the rebuild was told to end before anything was touched",
    "REBUILD_KILLED": "the rebuild was killed again and again while it received or prepared the copy",
    "REBUILD_DIALECT": "only MariaDB's data can be made anew",
    "REBUILD_STREAM": "the stream from the donor broke off",
    "REBUILD_PREPARE_FAILED": "the backup arrived and could not be made into a data directory",
    "REBUILD_STORAGE": "this node's disk refused a write or a rename",
    "REBUILD_UNIT": "the database's unit could not be stopped or started",
    "AHEAD_NO_BINLOG": "the node has data and no binary log where the configuration says: what it has extra is unknown",
    "AHEAD_UNREADABLE": "the node's binary log cannot be read",
    "AHEAD_NOT_SAVED": "what the node has extra could not be saved",
}


class RebuildError(Exception):
    """It does not go on. `code` is one of CODES."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
