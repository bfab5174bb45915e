"""The values of a drill: what goes from hand to hand between its processes, lies on disk, and is reported.

All are frozen dataclasses, written and read as JSON by `dump` and `load`. Times in `*_ms` count from the drill's
beginning (`Drill.began`), by the coordinator's clock, unless said otherwise; bytes and rows are plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter


class PhaseName(StrEnum):
    """In this order."""

    PREFLIGHT = "preflight"
    BACKUP = "backup"
    BASELINE = "baseline"
    INJECT = "inject"
    OBSERVE = "observe"
    LOAD = "load"
    RECOVER = "recover"
    REJOIN = "rejoin"
    CONSISTENCY = "consistency"
    REPORT = "report"


Outcome = Literal["passed", "failed", "aborted", "skipped", "under-way"]
Protocol = Literal["imap", "smtp"]
PROTOCOLS: tuple[Protocol, ...] = ("imap", "smtp")
Stage = Literal["baseline", "fault", "load", "ending"]
Command = tuple[str, ...]
OURSELVES = "failoverd"  # as the first word of a command: this program, wherever it is installed


# ---- what was asked ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an operator, or the timer (`by` "failoverd"), wants. Durations in seconds."""

    id: str  # YYYYMMDD-HHMMSS-scenario, UTC
    scenario: str
    by: str
    users: int
    duration_s: int
    backup: Literal["full", "incremental", "none"] = "full"
    window: str = ""  # HH:MM-HH:MM, local time of the coordinator; "" is the configuration's
    target: str = ""  # the node that the fault hits, where a scenario leaves a choice
    reason: str = ""
    scheduled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault on one node, as systemd is told: see faults.py. Commands are programs with their arguments.

    `inject` one after the other, all must succeed; `undo` one after the other, each whatever became of the others.
    `gone`: what succeeds exactly when nothing of it is left. `words` is what an operator is shown.
    """

    node: str
    words: str
    inject: tuple[Command, ...]
    undo: tuple[Command, ...]
    gone: tuple[Command, ...]
    limit_s: int  # systemd takes it away after that long, whatever became of everybody else


# ---- the drill on disk -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who is who when it begins. `heir`: who is to be primary afterwards, the same as `primary` where it must stay."""

    coordinator: str
    primary: str
    heir: str
    target: str  # "" where nothing is broken (switchover)
    data_nodes: tuple[str, ...]
    arbiters: tuple[str, ...]
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """One phase. `facts` are what it found, name to value, for the report."""

    name: PhaseName
    began_ms: int
    ended_ms: int | None = None
    outcome: Outcome = "under-way"
    code: str = ""
    reason: str = ""
    facts: dict[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that happened, as an operator would tell it."""

    at_ms: int
    text: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """The state of a drill: state.json, replaced after each step. `clean`: nothing of it is left on any node."""

    api: Literal["v1"] = "v1"
    asked: Asked
    cluster: str
    began: str  # UTC, ISO 8601 with milliseconds and Z
    cast: Cast | None = None
    fault: Fault | None = None
    phases: tuple[PhaseResult, ...] = ()
    notes: tuple[Note, ...] = ()
    outcome: Outcome = "under-way"
    code: str = ""
    reason: str = ""
    ended: str | None = None
    clean: bool = False


# ---- load ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What the generator is told. Passwords are in the file, never here. Rates are for each user, a minute."""

    drill: str
    address: str  # the VIP
    server_name: str
    ca: str
    imap_port: int
    imap_tls: Literal["implicit", "starttls", "none"]
    smtp_port: int  # submission, with authentication
    smtp_tls: Literal["implicit", "starttls", "none"]
    smtp_server_name: str = ""  # "": the same as IMAP's, and so with its CA
    smtp_ca: str = ""
    accounts_file: str
    directory: str  # where ledger.jsonl is written
    users: int
    ramp_s: int
    appends: float = 1.0
    fetches: float = 6.0
    submits: float = 1.0
    beats_per_s: int = 10  # fresh sessions for each protocol: how an outage looks to a client that comes now
    deadline_s: float = 30.0  # of one operation; what takes longer has failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One protocol's operations whose intended time lay in one second; latencies in ms, from the intended time.

    `latency` is a histogram: upper bound of a bucket in ms to how many.
    """

    ok: int = 0
    failed: int = 0
    refused: int = 0  # a temporary answer (4xx, NO [UNAVAILABLE]): clients come again
    rejected: int = 0  # a permanent one (5xx): mail would have been returned to its sender
    unknown: int = 0  # a message was sent and no answer came: it may have been taken, nobody has promised it
    latency: dict[str, int] = field(default_factory=dict)
    beats_ok: int = 0
    beats_failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """One second of load, told once nothing in it is open any more (at most `deadline_s` later)."""

    at_ms: int  # its beginning, CLOCK_REALTIME in ms
    stage: Stage
    sessions: int  # logged in to IMAP
    users: int  # wanted now
    imap: Tally = Tally()
    smtp: Tally = Tally()
    late_ms: float = 0.0  # the generator's own worst lateness: from when it meant to begin something to when it did


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadNow:
    """How it is at this moment, told each second: a `Second` waits for what is open in it."""

    sessions: int  # logged in to IMAP
    users: int  # wanted
    overdue: int  # operations that were meant a while ago and have no answer yet: people who wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time without one good beat: from the end of the last good one to the end of the next (CLOCK_REALTIME, ms)."""

    protocol: Protocol
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadDone:
    """What the generator says at its end: its own cost and honesty, and what servers can be asked to confirm."""

    logins: int  # IMAP sessions that were logged in
    submitted: int  # messages that SMTP took responsibility for
    appended: int
    logins_unknown: int = 0  # the answer never came
    submits_unknown: int = 0
    appends_unknown: int = 0
    late: dict[str, int] = field(default_factory=dict)  # its lateness as a histogram, as a Tally's latency is one
    gaps: tuple[Gap, ...]  # of more than half a second, or with a beat that failed
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    cpu_s: float
    rss_max_bytes: int
    most_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A line of ledger.jsonl: a message that a server took responsibility for."""

    message_id: str
    account: str
    mailbox: str
    how: Literal["append", "submit"]
    at_ms: int  # CLOCK_REALTIME
    size: int


# ---- what nodes find -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What an agent says of its node in preflight."""

    node: str
    software: str
    digest: str  # of the membership part of the configuration
    enabled: bool
    faults: tuple[str, ...]  # scenarios that this node's file allows to hit it
    drill: str = ""  # the drill that has the lock
    fault: bool = False  # failoverd-fault.service is there
    free_bytes: int | None = None  # where backups go; None: this node keeps none
    data_bytes: int | None = None  # of the database
    frozen_ok: str = ""  # why the configured file system must not be frozen; "": it may
    limits: dict[str, int] = field(default_factory=dict)  # of the mail servers (limits.py), as far as known


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupDone:
    """A backup that was prepared and started, on `node`."""

    node: str
    kind: Literal["full", "incremental"]
    directory: str
    bytes: int
    sha256: str  # of the manifest, which has each file's
    gtid: str
    server: str  # version of the server that started on it
    tables: int  # that it was asked to check, with every row
    made_s: float
    prepared_s: float
    started_s: float
    rows: int = 0  # that were read in them


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSum:
    """One table at the agreed GTID. `digest` is of its shape and all rows, whatever their order."""

    name: str  # schema.table
    rows: int
    digest: str
    shape: str = ""  # digest of its columns
    changed: str = ""  # how it changed while it was summed up: there is no digest then


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesDone:
    """All tables of one node."""

    node: str
    gtid: str
    tables: tuple[TableSum, ...]
    took_s: float
    left_out: dict[str, str] = field(default_factory=dict)  # tables whose rows cannot be compared, and why


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSum:
    """One mailbox. `content`: of each message's identity and text; `flags`: of its identity and flags."""

    account: str
    mailbox: str
    messages: int
    content: str
    flags: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxesDone:
    """The mailboxes that were asked for, on one node. `found`: how often each Message-ID of the ledger is there."""

    node: str
    mailboxes: tuple[MailboxSum, ...]
    found: dict[str, int]
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CountersDone:
    """What one node's servers counted for the drill's accounts, from a time on up to `until_ms` by its own clock."""

    node: str
    logins: int
    submitted: tuple[str, ...]  # Message-IDs: one that is handed on to another node is counted there as well
    until_ms: int = 0
    missing: str = ""  # why its journal does not tell all of that time


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDone:
    """One node's audit records of a time, oldest first; without the views that decisions were made on."""

    node: str
    records: tuple[dict[str, Any], ...]


# ---- the report ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What was wanted and what was. `unit`: "s", "ms", "%" or "" for a count; met where value <= limit."""

    name: str
    limit: float
    value: float | None  # None: could not be told, and is not met
    unit: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolFigures:
    """One protocol in one stage. Latencies in ms, None where nothing was measured. `outage_ms`: its longest gap."""

    protocol: Protocol
    stage: Stage
    operations: int
    failed: int
    refused: int
    rejected: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    outage_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One second of the charts."""

    at_ms: int
    users: int
    sessions: int
    imap_ok: int
    imap_bad: int
    smtp_ok: int
    smtp_bad: int
    imap_p95_ms: float | None
    smtp_p95_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LagPoint:
    """The lag of each replica, as the primary of that moment saw it; None: not known."""

    at_ms: int
    lag_ms: dict[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePhase:
    """One step of the change of primary, in ms of the drill."""

    name: str
    node: str
    began_ms: int
    ended_ms: int | None
    outcome: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOfPrimary:
    """The change that the drill brought about."""

    term: int
    kind: str
    previous: str | None
    holder: str | None
    rule: str
    reason: str
    began_ms: int
    ended_ms: int | None
    outage_ms: int | None
    phases: tuple[ChangePhase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTable:
    """One table: its digest on each node."""

    name: str
    rows: int
    digests: dict[str, str]
    same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """What was compared and what came of it."""

    gtid: str
    tables: tuple[ComparedTable, ...]
    mailboxes: int
    messages: int
    mailboxes_differ: tuple[str, ...]
    acknowledged: int
    lost: tuple[str, ...]  # Message-IDs, a hundred at most
    lost_count: int
    twice: tuple[str, ...]
    twice_count: int
    left_out: dict[str, str] = field(default_factory=dict)  # tables that were not compared, and why


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Something that the generator counted, and the servers."""

    name: str
    ours: int
    servers: int

    @property
    def apart_percent(self) -> float:
        """By how much they differ, of the servers' count."""
        return abs(self.ours - self.servers) * 100 / self.servers if self.servers else (100.0 if self.ours else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to mend. `page` lies in runbooks/."""

    code: str
    node: str
    reason: str
    page: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """report.json: all of it."""

    api: Literal["v1"] = "v1"
    drill: Drill
    software: dict[str, str]  # of each node
    config_digest: str
    objectives: tuple[Objective, ...]
    protocols: tuple[ProtocolFigures, ...]
    gaps: tuple[Gap, ...]  # in ms of the drill
    change: ChangeOfPrimary | None
    points: tuple[Point, ...]
    lag: tuple[LagPoint, ...]
    consistency: Consistency | None
    backup: BackupDone | None
    counters: tuple[Counter, ...]
    generator: LoadDone | None
    audit: tuple[dict[str, Any], ...]  # records of all nodes in the drill's time, oldest first
    advice: tuple[Advice, ...]


# ---- as JSON ---------------------------------------------------------------------------------------------------------

_T = TypeVar("_T")
_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Make each once."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def dump(value: object) -> bytes:
    """One of the values above as JSON, on one line."""
    return bytes(_adapter(type(value)).dump_json(value))


def load(kind: type[_T], data: bytes | str, *, strict: bool | None = None) -> _T:
    """Read one. Raises ValueError (pydantic's, which names the place). `strict`: no text passes for a number."""
    value = _adapter(kind).validate_json(data, strict=strict)
    assert isinstance(value, kind)  # noqa: S101 - what a TypeAdapter of a class gives is one
    return value
