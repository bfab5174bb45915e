"""What can happen to a node, as values. Names are past participles: an event has happened, whatever is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core.effects import Step, Swap
from failoverd.core.model import (
    DatabaseFacts,
    Maintenance,
    NodeName,
    Observation,
    Outcome,
    Record,
    Rejoin,
    Report,
    Request,
    Scheduled,
)
from failoverd.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A probe ended."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class Reported:
    """Another node's report came."""

    report: Report


@dataclass(frozen=True, slots=True)
class StoreSeen:
    """The store was read, or its watch told of a change."""

    record: Record


@dataclass(frozen=True, slots=True)
class Swapped:
    """A swap was answered (SUCCEEDED, or FAILED with the record that stands) or not (UNKNOWN)."""

    swap: Swap
    outcome: Outcome
    record: Record | None


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step ended, or its deadline came (UNKNOWN)."""

    step: Step
    outcome: Outcome
    code: str = ""
    reason: str = ""
    facts: DatabaseFacts | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """An operator's request, already checked by `candidates.planned_rejection`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Confirmed:
    """An operator's word that the last primary has no power, already checked by `candidates.confirm_rejection`."""

    node: NodeName
    term: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """An operator pauses the cluster (`paused`: by whom and why) or lets it go on (""). Checked before.

    `until_ms` is by the wall clock; 0: until somebody resumes.
    """

    paused: str
    by: str
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class MaintenanceAsked:
    """An operator begins maintenance of a node, or says it anew, or ends it (None). Checked before."""

    node: NodeName
    by: str
    maintenance: Maintenance | None


@dataclass(frozen=True, slots=True)
class AcknowledgeAsked:
    """An operator says that the changes of primary up to `term` are known, and no reason to wait any more."""

    term: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScheduleAsked:
    """An operator has a switchover begin later, or the one with this id not at all. Checked before."""

    by: str
    scheduled: Scheduled | None
    cancelled: str = ""


@dataclass(frozen=True, slots=True)
class MoveAsked:
    """An operator has the record sealed, to count at `place` in the next store from move `moves` on. Checked before."""

    by: str
    place: str
    moves: int


@dataclass(frozen=True, slots=True)
class TargetSeen:
    """The store that the record may be moved to was looked at: what it has, or (None) why it did not answer."""

    record: Record | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """What the wall clock was when this node's own clock began: at the start, and when somebody has set it."""

    epoch_ms: int


@dataclass(frozen=True, slots=True)
class RejoinAsked:
    """An operator's request that a node's database be made anew, already checked by `rejoin.rejections`."""

    rejoin: Rejoin


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """This node's configuration was read again: other thresholds, already checked by `reconfigure.refusal`."""

    policy: Policy
    by: str


Order = (
    PauseAsked | MaintenanceAsked | AcknowledgeAsked | ScheduleAsked | MoveAsked
)  # what orders.py makes of the record
Event = (
    Ticked
    | ClockSet
    | Observed
    | Reported
    | StoreSeen
    | Swapped
    | StepEnded
    | Asked
    | Confirmed
    | PauseAsked
    | MaintenanceAsked
    | AcknowledgeAsked
    | ScheduleAsked
    | MoveAsked
    | TargetSeen
    | RejoinAsked
    | Reconfigured
)
