"""A row of the fault matrix: what goes wrong, with the verbs of `Scene`, which undo themselves; and what comes of it.

    MOVES     another node is primary, once, and serves while the fault lasts
    STAYS     the role does not move: not one change of term
    WAITS     nobody is primary until what the row names returns; then somebody is, by itself
    SURVIVES  in the end one of those left is primary by itself, while the fault lasts
    SAFE      where the role is may depend on chance; only that nothing splits, nothing is lost, and all is well after

`served` names the protocols that clients must be served on at the end of the fault, before anything is healed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from trials.figures import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from faultmatrix.scene import Scene


class Outcome(Enum):
    """What is documented to come of a fault."""

    MOVES = "moves"
    STAYS = "stays"
    WAITS = "no primary until"
    SURVIVES = "one primary in the end"
    SAFE = "safe, and well after"


class Lead(Enum):
    """Where etcd's leader is at the beginning: the same in each trial, so that they compare."""

    ARBITER = "arbiter"
    PRIMARY = "primary"
    REPLICA = "replica"


NOBODY: tuple[str, ...] = ()
MAIL = ("smtp", "imap")
FEW, MANY = 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault."""

    name: str
    words: str
    fault: Callable[[Scene], None]
    outcome: Outcome
    trials: int = FEW
    lasts_s: float = 9.0  # three leases: what has not happened by then does not happen
    served: tuple[str, ...] = PROTOCOLS
    until: str = ""  # WAITS: what has to return
    returns: Callable[[Scene], None] | None = None  # WAITS: how it does
    disks: bool = False  # needs databases and mail store on disks of their own
    writers: int = 0  # so many more a protocol that write as fast as they are answered
    data_mb: int = 0  # what the databases hold besides
    once: bool = False  # and no mailbox may have a mail twice
    outage_s: float = math.inf  # for longer no client may wait; where nothing is said, the table only shows it
    fresh: bool = False  # needs a daemon that has not restarted a unit lately, which it does once in ten minutes
    etcd: bool = False  # breaks something of etcd: makes no sense with another store
    # Where the store is etcd, whatever is broken then:
    leads: Lead = Lead.ARBITER  # whose host etcd's leader is on
    on_member: bool = False  # the primary is on a host that has a member
    snapshot: bool = False  # there is a snapshot that is older than the present term


def expected(row: Row) -> str:
    """Say what is documented, in a few words."""
    if row.outcome is Outcome.WAITS:
        return f"{row.outcome.value} {row.until} returns"
    if row.outcome is Outcome.STAYS and row.served != PROTOCOLS:
        return f"stays; {', '.join(row.served).upper() or 'nobody'} served meanwhile"
    return str(row.outcome.value)
