"""What the daemon tells an operator, version v1: the status document, and how a request is answered.

These are plain dataclasses, so that failoverctl starts in a fifth of a second: the daemon writes them as JSON (and
their schema) with pydantic, see control.py; failoverctl reads them with `from_json`, which ignores keys that a
newer daemon added and names the place of what is missing.

Everything is as the answering node sees it, and says what it cannot know: None is "not known", never "no".
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Verdict = Literal["up", "down", "degraded", "unknown"]
Role = Literal["primary", "replica", "arbiter", "fenced"]
LeaseState = Literal[
    "held",  # it runs: left_ms by this node's count
    "ended",  # it has run out, nobody has taken over yet
    "revoked",  # given back by its holder
    "condemned",  # revoked by another node, which has the holder's power cut: left_ms as for held
    "off",  # somebody confirmed that the holder has no power
    "unknown",  # the store does not answer, or not for long enough yet to tell
    "none",  # no primary has ever been
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why not, or what to know: a code with a page in runbooks/, and the words. `node` None: the whole cluster."""

    code: str
    reason: str
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatus:
    """The holder's lease. `left_ms` on the holder is its own deadline, elsewhere the longest it can still run.

    `by`: who condemned it, or who says that its power is off.
    """

    state: LeaseState
    left_ms: int | None = None
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """The store as this node reaches it."""

    kind: str
    reachable: bool
    node: str | None = None  # where it lives, when it lives on one node
    version: int | None = None  # of the newest record seen
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One probed service of one node: the quorum's verdict and each observer's words (`ok`, or code and reason)."""

    verdict: Verdict
    votes: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStatus:
    """One systemd unit."""

    unit: str
    active: str
    sub: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationStatus:
    """From where a database receives, and its two threads: running, connecting, stopped. `source` is an address."""

    source: str
    receiver: str
    applier: str
    lag_ms: int | None = None
    receiver_error: str = ""
    applier_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SemiSyncStatus:
    """`source`: its commits wait for an acknowledgement. `replica`: it acknowledges. `clients`: who does, here."""

    source: bool
    replica: bool
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """One database server. `behind` counts transactions of the primary, as last heard, that it has not received."""

    version: str
    read_only: bool
    position: str
    semi_sync: SemiSyncStatus
    behind: int | None = None
    replication: ReplicationStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VipStatus:
    """Whether the node has the virtual IP; `others` are hardware addresses that answered for it and should not."""

    present: bool
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """The host's load and what is left of it. `disk_free_percent` is of the fullest of `host.disks`."""

    load_per_core: float
    memory_free_percent: float
    disk_free_percent: float
    fullest_disk: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildStatus:
    """The newest rebuild of a node's database since its boot. Bytes, and bytes a second; `expected` is an estimate.

    `saved`: where that node keeps what it had and the primary lacks.
    """

    under_way: bool
    stage: str
    received: int = 0
    expected: int = 0
    rate: int = 0
    left_ms: int | None = None
    code: str = ""
    reason: str = ""
    saved: str = ""

    @property
    def words(self) -> str:
        """How far it is, in a few words."""
        said = self.stage
        if self.stage == "receive" and self.expected:
            said += f": {self.received / 1e6:.0f} of {self.expected / 1e6:.0f} MB, {self.rate / 1e6:.0f} MB/s"
            said += f", {self.left_ms // 1000} s left" if self.left_ms is not None else ""
        if self.stage == "ahead" and self.saved:
            said += f": saved in {self.saved}"
        return f"{said}: {self.reason}" if self.reason else said


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceStatus:
    """A node that is worked on: no candidate, and its findings are no alerts. `until` None: until somebody ends it."""

    by: str
    reason: str
    until: str | None = None  # a moment as ISO 8601, in UTC, as all moments here


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStatus:
    """What the looks at one service of one node take on average, of those that the node makes that says so."""

    service: str
    node: str
    mean_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringStatus:
    """Gauges of one node. Logins and deliveries are counted since its daemon began to read the journal."""

    latency: tuple[LatencyStatus, ...] = ()
    imap_connections: int | None = None
    logins_accepted: int | None = None
    logins_refused: int | None = None
    deliveries: int | None = None
    deliveries_per_s: float | None = None
    postfix_cpu_percent: float | None = None
    slow_queries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One member. `fresh`: its newest report is recent enough to count; what an older one said is shown as such.

    `last_heard_ms` is the age of its newest report, 0 for the answering node itself, None when there was none.
    """

    name: str
    kind: Literal["data", "arbiter"]
    address: str
    fresh: bool
    last_heard_ms: int | None = None
    desired: Role | None = None
    actual: Role | None = None
    term: int | None = None  # the newest that it has seen
    software: str | None = None
    ready: bool | None = None
    serving: bool | None = None
    services: dict[str, ServiceStatus]
    units: tuple[UnitStatus, ...] = ()
    database: DatabaseStatus | None = None
    vip: VipStatus | None = None
    host: HostStatus | None = None
    rebuild: RebuildStatus | None = None
    monitoring: MonitoringStatus | None = None
    findings: tuple[Reason, ...] = ()
    maintenance: MaintenanceStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverStatus:
    """Could the role move right now if the primary were lost: to whom, or why not."""

    possible: bool
    candidate: str | None = None
    rejected: tuple[Reason, ...] = ()  # why a node is no candidate
    blockers: tuple[Reason, ...] = ()  # why nothing may move, whoever the candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatus:
    """The rule in force on the answering node."""

    id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatus:
    """An operator's request in flight, and its newest step."""

    id: str
    target: str
    by: str
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStatus:
    """A switchover that begins at `at` by itself. `unfit`: why it would be dropped if it were due now."""

    id: str
    target: str
    by: str
    reason: str
    at: str
    unfit: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundStatus:
    """Commits wait for no replica; a failover may lose the last `limit_ms` of them, no more.

    `nearest` is the replica that is least behind, by `lag_ms`; None: not known. `within`: who could take over now.
    """

    limit_ms: int
    nearest: str | None = None
    lag_ms: int | None = None
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossStatus:
    """What the loss of `node` alone would leave: whether the primary serves on, and whether it could be replaced."""

    node: str
    serves: bool
    replaceable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDocument:
    """The cluster as `node` sees it."""

    api: Literal["v1"] = "v1"
    cluster: str
    node: str
    software: str
    term: int
    holder: str | None
    lease: LeaseStatus
    store: StoreStatus
    nodes: tuple[NodeStatus, ...]
    failover: FailoverStatus
    rule: RuleStatus
    afford: tuple[LossStatus, ...] = ()  # of each node but the primary, what can be lost
    request: RequestStatus | None = None
    paused: str = ""  # by whom and why nothing acts by itself
    paused_until: str | None = None  # None: until somebody resumes
    scheduled: ScheduledStatus | None = None
    unproven: str = ""  # why what clients were told may be only on the primary: without its own word nobody takes over
    bound: BoundStatus | None = None  # where rpo is bounded
    refused: tuple[Reason, ...] = ()  # protection that the answering node's host does not grant


# ---- check ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFinding:
    """One finding of one node. `blocks`: a failover may not rely on that node. `page` lies in runbooks/."""

    node: str
    code: str
    blocks: bool
    reason: str
    meaning: str
    fix: str
    page: str
    maintenance: bool = False  # its node is worked on: no alert, and no reason to call the cluster unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDocument:
    """Whether the cluster is fit to fail over, as `node` sees it. `unseen` is what could not be looked at, and why."""

    api: Literal["v1"] = "v1"
    cluster: str
    node: str
    fit: bool  # no finding blocks, and the role could move now
    findings: tuple[CheckedFinding, ...]
    failover: FailoverStatus
    unseen: tuple[Reason, ...]


# ---- rejoin -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RejoinDocument:
    """What `failoverctl rejoin` would do now. `refused`: why it would not.

    `transactions` is how many of the node's the primary lacks, by their numbers, at most; None: not known.
    """

    api: Literal["v1"] = "v1"
    node: str
    holder: str
    action: Literal["rebuild", "follow", "none"]
    reason: str
    donor: str
    transactions: int | None
    ahead: str  # where what is extra is saved, on that node
    refused: tuple[Reason, ...] = ()


# ---- requests ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The request goes on in the daemon, whatever becomes of who asked."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing was touched, and why. `last_resort`: what a person could do all the same, and what that would cost."""

    reasons: tuple[Reason, ...]
    last_resort: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a promotion would come to now, of which nothing was asked. Without `refused` it would be begun.

    `passed` are the blockers that force goes past, `lost` says what may be lost then, a sentence each.
    """

    refused: tuple[Reason, ...]
    passed: tuple[Reason, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of a request, `elapsed_ms` after its acceptance. `final`: the last one; the rest counts only then.

    `refused`: the primary refused it before anything was touched.
    """

    elapsed_ms: int
    node: str
    text: str
    code: str = ""
    final: bool = False
    succeeded: bool = False
    refused: bool = False


# ---- reading ----------------------------------------------------------------------------------------------------


class DocumentError(Exception):
    """What the daemon said is not understood; the text names the place."""


_INT64 = 2**63  # what is more is no number of ours
_T = TypeVar("_T")


def from_json(kind: type[_T], data: bytes) -> _T:
    """The dataclass `kind` of this module in `data`. Raises DocumentError."""
    try:
        value = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"not JSON: {error}") from None
    built = _build(kind, value, kind.__name__)
    if not isinstance(built, kind):
        raise DocumentError(f"{kind.__name__}: {built!r} is none")
    return built


def _no_number(word: str) -> object:
    raise ValueError(f"{word} is no number of JSON")


_hints = cache(get_type_hints)


def _build(kind: Any, value: object, place: str) -> object:  # noqa: ANN401 - any annotation used above
    """`value` as the annotation `kind`: dataclasses, tuples of one type, dicts by str, unions with None, scalars."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        (some,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _build(some, value, place)
    if origin is tuple and isinstance(value, list):
        return tuple(_build(arguments[0], item, f"{place}.{index}") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {printable(name): _build(arguments[1], item, f"{place}.{name}") for name, item in value.items()}
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return _build_dataclass(kind, value, place)
    # A newer daemon may know words that this Literal does not: they are shown as they are.
    scalar = str if origin is Literal else kind
    if scalar is str and isinstance(value, str):
        return printable(value)
    if scalar is type(value) is bool or (scalar in {int, float} and _is_number(value, whole=scalar is int)):
        return value
    raise DocumentError(f"{place}: {value!r} was not expected")


def _is_number(value: object, *, whole: bool) -> bool:
    if isinstance(value, float):
        return not whole
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INT64


def printable(text: str) -> str:
    """What a terminal can be shown: servers' and other people's words are in a document, and none of them moves it."""
    return text if text.isprintable() else "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


def _build_dataclass(kind: type, value: dict[str, object], place: str) -> object:
    hints, given = _hints(kind), {}
    for field in fields(kind):
        if field.name in value:
            given[field.name] = _build(hints[field.name], value[field.name], f"{place}.{field.name}")
        elif field.default is MISSING:
            raise DocumentError(f"{place}.{field.name}: missing")
    return kind(**given)
