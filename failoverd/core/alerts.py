"""What is worth telling a person: what stands against the cluster as alerts, what has happened to it as events.

An alert stands and goes away: a finding of a node, a blocker of a failover, a node that is not seen. An event has only
happened: the primary has changed, or should have and has not. Both are worked out from one look at the documents that
`failoverctl status` and `check` show, anew at each look, and nobody is told here: see telling.py.

What cannot be seen is not gone: a node that is silent, or has just been started, keeps the alerts that it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from failoverd.core.findings import Severity

LATE_MS = (
    15_000  # a lost primary that nobody has replaced by then: a fence agent and a long relay log have had their time
)
RECORDED_LATE_MS = 15_000  # of a term whose record may not be on most nodes: by then the failover is told all the same
SERVES_LATE_MS = 60_000  # a new primary that does not serve by then is told of all the same

# Every code of this module. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "PRIMARY_LOST": "no node serves as the primary",
    "PRIMARY_CHANGED": "another node is the primary",
    "FAILOVER_BLOCKED": "the primary is lost, and nobody may take over",
    "NO_CANDIDATE": "should the primary be lost, no node could take over",
    "TWO_VIPS": "more than one node has the virtual IP",
}
FIXES: Mapping[str, str] = {
    "PRIMARY_LOST": "wait some seconds for the failover; then failoverctl status says what it waits for",
    "PRIMARY_CHANGED": "see why, and whether the former primary has come home: failoverctl status",
    "FAILOVER_BLOCKED": "remove what blocks it, or failoverctl promote --node NODE",
    "NO_CANDIDATE": "bring one replica in order: each page named has the way",
    "TWO_VIPS": "failoverctl status names them; take the address from the one without the lease",
}
OVER = frozenset({"ended", "off", "condemned"})  # states of a lease whose holder is lost


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to tell. `node` "": the whole cluster. `page` lies in runbooks/. `at_once`: it needs no settling."""

    code: str
    node: str
    severity: Severity
    reason: str
    meaning: str = ""
    fix: str = ""
    page: str = ""
    at_once: bool = False

    @property
    def key(self) -> str:
        """What makes two of them the same."""
        return f"{self.code}/{self.node or '-'}"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the status and check documents of this node.

    `findings`, `blockers`, `rejected` and `unseen` are those of the documents. `unknown`: nodes of which it is not
    known what is gone: silent, or started just now. `has_vip`: who is seen to have the virtual IP. `rule`: why this
    term began. `holder_age_ms`: how old what is known of the holder is. `own`: what of `findings` this node finds of
    itself and no other can see. `recorded`: what is missing of the new primary's record being on most nodes; None: that
    is not known yet.
    """

    node: str
    term: int = 0
    holder: str = ""
    previous: str = ""
    rule: str = ""
    lease: str = "none"
    serving: frozenset[str] = frozenset()
    holder_age_ms: int = 0
    own: tuple[Alert, ...] = ()
    possible: bool = True
    findings: tuple[Alert, ...] = ()
    blockers: tuple[Alert, ...] = ()
    rejected: tuple[Alert, ...] = ()
    unseen: tuple[Alert, ...] = ()
    has_vip: tuple[str, ...] = ()
    maintenance: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    recorded: str | None = ""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event in the cluster's order: of one key a higher `number` is newer. Here it is the term."""

    number: int
    alert: Alert


def standing(look: Look, of_others: Iterable[Alert] = ()) -> dict[str, Alert]:
    """All alerts that stand at this look, by key; `of_others` is what other nodes say of themselves (Look.own)."""
    found: dict[str, Alert] = {}
    everywhere = {alert.code for alert in look.unseen}
    for alert in (*_of_the_cluster(look), *look.findings, *of_others, *look.unseen):
        _add(found, alert)
    for alert in look.blockers:
        if alert.code not in everywhere:  # the store that does not answer stands in both
            _add(found, alert)
    return {key: alert for key, alert in found.items() if not alert.node or alert.node not in look.maintenance}


def _add(found: dict[str, Alert], alert: Alert) -> None:
    """Two of one code on one node (two disks) are one alert with both reasons."""
    other = found.get(alert.key)
    if other is None:
        found[alert.key] = alert
    elif alert.reason not in other.reason:
        found[alert.key] = replace(other, reason=f"{other.reason}; {alert.reason}")


def _of_the_cluster(look: Look) -> Iterable[Alert]:
    if look.holder and look.lease in OVER:
        yield _own("PRIMARY_LOST", f"{look.holder}'s lease of term {look.term} is over ({look.lease})", at_once=True)
    elif look.holder and not look.serving and look.holder not in look.unknown:
        yield _own("PRIMARY_LOST", f"{look.holder} is to be primary in term {look.term}, and does not serve")
    if not look.possible and not look.blockers:
        why = "; ".join(f"{alert.node}: {alert.code} {alert.reason}" for alert in look.rejected)
        yield _own("NO_CANDIDATE", why or "no other data node is heard")
    if len(look.has_vip) > 1:
        yield _own("TWO_VIPS", f"{' and '.join(look.has_vip)} have the virtual IP")


def _own(code: str, reason: str, *, severity: Severity = Severity.BLOCKS, at_once: bool = False) -> Alert:
    return Alert(code, "", severity, reason, CODES[code], FIXES[code], f"runbooks/codes/{code}.md", at_once)


@dataclass(frozen=True, slots=True)
class Course:
    """What has to be remembered from look to look to tell what has happened: by this node's own clock.

    `served_ms`: when a primary was last seen to serve; None: not since this began. `term_ms`: when the newest term was
    first seen. `over_ms`: since when the lease is over. `outage_ms`: how long nobody served around the newest change.
    `served_term`: the newest term in which somebody was seen to serve.
    """

    term: int = 0
    term_ms: int = 0
    served_ms: int | None = None
    over_ms: int | None = None
    outage_ms: int | None = None
    served_term: int = 0
    changed: Happened | None = None
    blocked: Happened | None = None

    @property
    def happened(self) -> tuple[Happened, ...]:
        """The newest of each kind."""
        return tuple(event for event in (self.changed, self.blocked) if event is not None)


def follow(course: Course, look: Look, now_ms: int) -> Course:
    """Go on from the former look to this one."""
    now = course
    if look.term > now.term:
        now = replace(now, term=look.term, term_ms=now_ms, outage_ms=None)
    serves = bool(look.holder) and look.holder in look.serving and look.lease not in OVER
    seen_ms = now_ms - look.holder_age_ms  # a node that is gone counts as it was until its last report is too old
    if look.holder and (now.changed is None or now.changed.number < look.term):
        if serves and now.served_term < look.term:
            outage_ms = max(0, seen_ms - now.served_ms) if now.served_ms is not None and course.term else None
            now = replace(now, served_term=look.term, outage_ms=outage_ms)
        if serves and (look.recorded is not None or now_ms - now.term_ms > RECORDED_LATE_MS):
            now = replace(now, changed=Happened(look.term, _changed(look, _outage(now.outage_ms))))
        elif now_ms - now.term_ms > SERVES_LATE_MS:
            now = replace(now, changed=Happened(look.term, _changed(look, "it does not serve yet")))
    if serves:
        return replace(now, served_ms=seen_ms, over_ms=None)
    if not look.holder or look.lease not in {*OVER, "revoked"}:
        return replace(now, over_ms=None)
    over_ms = now_ms if now.over_ms is None else now.over_ms
    if now_ms - over_ms >= LATE_MS and (now.blocked is None or now.blocked.number < look.term):
        now = replace(now, blocked=Happened(look.term, _blocked(look)))
    return replace(now, over_ms=over_ms)


def _outage(outage_ms: int | None) -> str:
    return "how long nobody served was not seen" if outage_ms is None else f"nobody served for {outage_ms / 1000:.1f} s"


def _changed(look: Look, outage: str) -> Alert:
    planned = look.rule.startswith(("take-over-given", "adopt"))
    what = "switchover" if planned else "failover"
    why = f": {look.rule}" if look.rule else ""
    former = f"after {look.previous}" if look.previous else "the first one"
    reason = f"{what}{why}; {look.holder} is primary in term {look.term}, {former}; {outage}, as {look.node} saw it"
    if look.recorded:
        reason += f"; {look.recorded}"
    return _own("PRIMARY_CHANGED", reason, severity=Severity.WARNS if planned else Severity.BLOCKS)


def _blocked(look: Look) -> Alert:
    reasons = [f"{alert.code} {alert.reason}" for alert in look.blockers]
    reasons += [f"not {alert.node}: {alert.code} {alert.reason}" for alert in look.rejected]
    why = "; ".join(reasons) or "nothing is known to block it: failoverctl status on each data node"
    text = f"{look.holder}, primary in term {look.term}, is lost for {LATE_MS // 1000} s and not replaced: {why}"
    return _own("FAILOVER_BLOCKED", text)
