"""The quarterly drill: a fault on purpose, on production, without harm, and the evidence of what came of it.

    preflight ── backup ── baseline ── inject ── observe ── load ── recover ── rejoin ── consistency ── report
    fit, or      verified  what is      the     who took    the new   the fault  all are     rows, mails,   HTML and
    refused      by start  normal       fault   over, when  one works is gone    replicas    canaries       JSON

    failoverctl ─> daemon ─> coordinator ── mutual TLS ──> agent of each node ──> jobs (child processes)
                             (failoverd drill)                                └─> failoverd-fault.service

Three things hold whatever dies. The fault is a unit of systemd with an end of its own, and its taking away is systemd's
work. The coordinator's lock on each agent lapses 15 s after its last word, and the agent then takes the fault away. The
coordinator's unit runs `failoverd drill --recover` when it ends, however it ended.

model        the values that go from hand to hand, and lie on disk     scenarios/   one file each
coordinator  the phases in their order, each with its gate and limit   load/        500 users, open-loop
agent, jobs  what a node does for it                                   report/      what is left for an auditor
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every code that a drill can give. Each has a page in runbooks/. Of drills that do not come the daemon tells
# (core/findings.py).
CODES: Mapping[str, str] = {
    # refused: nothing was changed
    "DRILL_DISABLED": "this configuration allows no drill, or not this fault on that node",
    "DRILL_RUNNING": "another drill is under way, or its remains have not been cleared",
    "DRILL_WRONG_NODE": "the drill was begun on a node that its fault would touch",
    "DRILL_NOT_FIT": "the cluster is not fit to fail over now",
    "DRILL_LAG": "a replica is too far behind",
    "DRILL_MAINTENANCE": "a node is being worked on, a switchover is due, or nothing acts by itself now (pause)",
    "DRILL_WINDOW": "it is not the time of day at which drills are allowed",
    "DRILL_SPACE": "there is too little room for the backup or its trial",
    "DRILL_NO_FENCE": "the scenario cuts power, and no fence agent is configured for that node",
    "DRILL_NO_AGENT": "a node's drill agent cannot be reached, or is of another version or configuration",
    "DRILL_NO_ACCOUNTS": "there are no accounts that the load could use",
    "DRILL_DISK": "the file system that would be frozen is one that failoverd itself or the host needs",
    # a warning: it begins all the same
    "DRILL_LIMITS": "a limit of the mail servers would refuse some of the load",
    # failed, and undone
    "DRILL_BACKUP_FAILED": "the backup could not be made",
    "DRILL_BACKUP_UNVERIFIED": "the backup does not start, or does not hold what it should",
    "DRILL_INJECT_FAILED": "the fault could not be brought about",
    "DRILL_NOT_SEEN": "the cluster did not do what the scenario expects of it in time",
    "DRILL_WRONG_END": "another node is primary than was expected, or the role moved where it should have stayed",
    "DRILL_LOAD_FAILED": "the load could not be kept up, or its generator ended",
    "DRILL_CLIENTS_SUFFER": "real clients suffered from the drill: it was ended",
    "DRILL_UNDO_FAILED": "the fault could not be taken away, or is not seen to be gone",
    "DRILL_NOT_HOME": "the old primary did not come back as a replica in time",
    "DRILL_DIFFERS": "nodes do not hold the same rows or mails",
    "DRILL_LOST": "something that was acknowledged is missing",
    "DRILL_TWICE": "something that was acknowledged once is there twice",
    "DRILL_PHASE_TIMEOUT": "a phase took longer than its limit",
    "DRILL_ABORTED": "somebody ended it",
    "DRILL_ENDED": "its own process ended in the middle",
    "DRILL_OBJECTIVE": "all went as expected, and not as well as it has to",
    "DRILL_BUG": "failoverd itself went wrong",
}


class DrillError(Exception):
    """It does not go on. `code` is one of CODES."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
