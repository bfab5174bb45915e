"""What may be asked of the world, as values. The executor answers each with an event; see `machine`.

Every effect carries its term, and an adapter refuses an older one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from failoverd.core.gtid import GtidSet
from failoverd.core.lease import Held, Memory
from failoverd.core.model import NodeName, Record, Report

if TYPE_CHECKING:
    from failoverd.core.view import View  # which knows of steps


class Purpose(Enum):
    """Why a swap is made."""

    RENEW = "renew"
    TAKE_OVER = "take-over"
    ADOPT = "adopt"
    GIVE_BACK = "give-back"
    REQUEST = "request"
    DROP_REQUEST = "drop-request"
    CONDEMN = "condemn"
    CONFIRM = "confirm"
    ORDER = "order"  # a pause, maintenance, an acknowledgement, a schedule (orders.py)
    RUN_OUT = "run-out"
    SCHEDULE = "schedule"  # one that is due
    MARK = "mark-unproven"
    CLEAR = "clear-unproven"


class StepKind(Enum):
    """One idempotent thing that a node does to itself."""

    __hash__ = object.__hash__  # a member is one object, and tables are asked at each event: Enum's own is slow

    CLOSE_GATE = "close-gate"
    OPEN_GATE = "open-gate"
    FREEZE = "freeze"
    AWAIT_POSITION = "await-position"
    APPLY = "apply-relay-log"
    BECOME_SOURCE = "become-source"
    AWAIT_REPLICA = "await-replica"
    MAKE_WRITABLE = "make-writable"
    STOP_WAITING = "stop-waiting"
    WRITE_JOURNAL = "write-journal"
    MAKE_READ_ONLY = "make-read-only"
    KILL_DATABASE = "kill-database"
    FOLLOW = "follow"
    RESTART_UNIT = "restart-unit"
    BREAK_LOCKS = "break-locks"
    PROVE = "prove"
    FENCE = "fence"
    DRAIN = "drain-queue"
    HAND_ON = "hand-on-queue"
    RELEASE = "release-queue"
    TAKE_STORE = "take-store"
    START_SERVICES = "start-services"
    STOP_SERVICES = "stop-services"
    RELEASE_STORE = "release-store"
    START_REBUILD = "start-rebuild"


class Lane(Enum):
    """Steps of one lane run one after the other; a lane that hangs holds up no other."""

    KERNEL = "kernel"
    DATABASE = "database"
    UNITS = "units"
    STORE = "mail-store"
    FENCE = "fence"
    DRAIN = "drain"
    QUEUE = "queue"
    MOUNT = "mount"
    SERVICES = "services"


LANES: dict[StepKind, Lane] = {
    StepKind.CLOSE_GATE: Lane.KERNEL,
    StepKind.OPEN_GATE: Lane.KERNEL,
    StepKind.KILL_DATABASE: Lane.UNITS,
    StepKind.RESTART_UNIT: Lane.UNITS,
    StepKind.PROVE: Lane.UNITS,
    StepKind.START_REBUILD: Lane.UNITS,
    StepKind.BREAK_LOCKS: Lane.STORE,
    StepKind.FENCE: Lane.FENCE,
    StepKind.DRAIN: Lane.DRAIN,  # not behind a message that is being handed on
    StepKind.HAND_ON: Lane.QUEUE,
    StepKind.RELEASE: Lane.QUEUE,
    StepKind.TAKE_STORE: Lane.MOUNT,
    StepKind.RELEASE_STORE: Lane.MOUNT,  # not behind a walk through it, which is told to end
    StepKind.START_SERVICES: Lane.SERVICES,
    StepKind.STOP_SERVICES: Lane.SERVICES,  # nothing of the database waits for it
}  # all others: DATABASE


@dataclass(frozen=True, slots=True)
class Step:
    """A step with its arguments. `number` names this one attempt; `deadline_ms` is how long it may take."""

    kind: StepKind
    term: int
    number: int
    deadline_ms: int
    unit: str = ""
    units: tuple[str, ...] = ()
    service: str = ""
    address: str = ""
    position: GtidSet | None = None
    previous: NodeName | None = None
    target: NodeName | None = None  # whose power is to be cut, or whose data are copied
    from_primary: bool = False
    request: str = ""  # whose rebuild it is
    reason: str = ""

    @property
    def lane(self) -> Lane:
        """Where it runs."""
        return LANES.get(self.kind, Lane.DATABASE)


@dataclass(frozen=True, slots=True)
class Swap:
    """Ask the store to replace `expected_version` by `record`. `sent_ms` is from before it is sent, as rule 1 asks."""

    purpose: Purpose
    expected_version: int
    record: Record
    sent_ms: int


@dataclass(frozen=True, slots=True)
class RenewGate:
    """Keep the open gate and the VIP until `until_ms`, the lease's deadline."""

    term: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Perform:
    """Run a step."""

    step: Step


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a step that no longer serves: its answer comes as UNKNOWN at once."""

    step: Step


@dataclass(frozen=True, slots=True)
class Push:
    """Send this report to every other node."""

    report: Report


@dataclass(frozen=True, slots=True)
class Remember:
    """What must be on disk before anything else in the same list is begun."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class KeepLease:
    """The lease held (or none), where a restarted daemon of the same boot finds it, and the guard.

    `leaving`: it is being given back. A daemon that is started anew does not go on with it, since the store may have
    been told by then; until its deadline it is the guard's all the same.
    """

    held: Held | None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """Write the heartbeat row."""

    term: int
    beat: int


Effect = Swap | RenewGate | Perform | Cancel | Push | Remember | KeepLease | Beat


@dataclass(frozen=True, slots=True)
class Entry:
    """One audit record: what kind, which rule or step, in which term, and plain words. Written before its effects.

    `view` is what it was decided on, where it tells of a decision: the audit keeps it, so that `explain` can decide
    again. It is a value that nothing changes, so that whoever writes the record may encode it later, in its own thread.
    """

    kind: str
    term: int
    rule: str
    text: str
    code: str = ""
    detail: tuple[tuple[str, str], ...] = ()
    view: View | None = field(default=None, repr=False, compare=False)
