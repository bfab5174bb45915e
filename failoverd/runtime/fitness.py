"""`failoverctl check`: what every node found, put together with what each code means and how it is fixed.

What is the same for a code stands in one table: core/findings.py for settings, lag and errant transactions, here, by
the first word of the code, for what the probes and the host say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd import actions, credentials, databases, fencing, notify, probes, refusals
from failoverd.config import reload
from failoverd.core import repair
from failoverd.core.findings import FINDINGS, Finding, Severity
from failoverd.core.model import Health
from failoverd.core.monitoring import PROBES
from failoverd.runtime import access_codes, copies_kept, host, public_codes
from failoverd.runtime import document as doc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failoverd.core.view import View

_MEANINGS: Mapping[str, str] = {
    **repair.CODES,
    **actions.CODES,
    **databases.CODES,
    **fencing.CODES,
    **probes.CODES,
    **host.CODES,
    **notify.CODES,
    **public_codes.CODES,
    **access_codes.CODES,
    **copies_kept.CODES,
    **reload.CODES,
    **credentials.CODES,
    **refusals.CODES,
}
# What fails on a node itself keeps it from being elected (candidates: not ready, no database, DISK_*); the rest warns.
_B, _W = Severity.BLOCKS, Severity.WARNS
_BY_FIRST_WORD: Mapping[str, tuple[Severity, str]] = {
    "IMAP": (_B, "look at the IMAP server on that node: its unit, its log, its certificate"),
    "SMTP": (_B, "look at the SMTP server on that node: its unit, its log, its certificate"),
    "DB": (_B, "look at the database server on that node: its unit, its log, failoverd's account"),
    "DISK": (_B, "look at that file system: free space, mount, the kernel's log"),
    "UNIT": (_W, "systemctl status of that unit on that node"),
    "REPL": (_B, "see its page: some pass by themselves, some only a rebuild ends (failoverctl rejoin)"),
    "REBUILD": (_W, "look at the journal of failoverd-rebuild.service on that node"),
    "VIP": (_W, "look for who else has the virtual IP, and at the interface"),
    "GATE": (_W, "leave the gate to failoverd: look for what changed it"),
    "STORE": (_B, "look at the mail store on that node: its mount or its program, and what the code's page says"),
    "MEMORY": (_W, "find what uses the memory on that node"),
    "LOAD": (_W, "find what keeps that node busy"),
    "FENCE": (_W, "try the fence agent by hand, with the options of fencing.nodes"),
    "HOST": (_W, "grant it in failoverd's unit, or where the host is a container in that one's settings"),
    "HTTP": (_W, "look at what else has that port, and at the section http"),
    "ACCESS": (_W, "look at the section access, and at what the code's page says"),
    "AUDIT": (_W, "failoverctl audit verify on that node says what differs from where on; see its page"),
    "CONFIG": (_W, "put the file right, or back: failoverctl config check says what is wrong with it"),
    "CERT": (_W, "put a new certificate, key or CA in place on that node: it is taken without a restart"),
    "PEER": (_W, "look at the certificate, the address and the clock of the node that is named; its page says how"),
    "GUARD": (_W, "systemctl start failoverd-guard on that node"),
    "HELPER": (_W, "systemctl restart failoverd-helper on that node: it touches no role"),
    "LEASH": (_W, "let failoverd-guard trace the database server: see its unit"),
    "PROBE": (_W, "look at what that node is short of, or keep its journal for the developers"),
    "ALERT": (_W, "look at that receiver: failoverctl alerts, then failoverctl alerts test"),
    "ALERTS": (_W, "failoverctl alerts on that node says how its queue stands"),
    "QUEUE": (_W, "look at the mail queue on that node, and what the code's page says"),
    "ARP": (_W, "look at the interface of the virtual IP"),
}
# What is worked out of the record and the other nodes' reports.
_OF_THE_CLUSTER: Mapping[str, Finding] = {
    "NEEDS_REJOIN": Finding(
        Severity.BLOCKS,
        "the node holds transactions that the primary lacks",
        "failoverctl rejoin: what it has extra is saved, then it is rebuilt",
    ),
    "CERT_EXPIRED": Finding(
        Severity.BLOCKS,
        credentials.CODES["CERT_EXPIRED"],
        "look at that node's clock, then put a new certificate in place: it is taken without a restart",
    ),
    "CERT_NOT_YET": Finding(
        Severity.BLOCKS,
        credentials.CODES["CERT_NOT_YET"],
        "look at that node's clock: it is behind, or whoever made the certificate is ahead",
    ),
    "RPO_UNPROVEN": Finding(
        Severity.BLOCKS,
        "what clients were told may be on the primary alone: should it be lost, nobody takes over",
        "bring back a replica that acknowledges",
    ),
}


def about(code: str) -> Finding:
    """What is the same wherever `code` is found."""
    if code in FINDINGS:
        return FINDINGS[code]
    if code in _OF_THE_CLUSTER:
        return _OF_THE_CLUSTER[code]
    severity, fix = _BY_FIRST_WORD[code.partition("_")[0]]
    return Finding(severity, _MEANINGS[code], fix)


def check(view: View, status: doc.StatusDocument) -> doc.CheckDocument:
    """The whole document; `status` is that of the same moment."""
    worked_on = {node.name for node in status.nodes if node.maintenance is not None}
    findings = [
        _checked(node.name, reason.code, reason.reason, maintenance=node.name in worked_on)
        for node in status.nodes
        if node.fresh
        for reason in node.findings
    ]
    findings += [_checked(status.node, r.code, r.reason, maintenance=status.node in worked_on) for r in status.refused]
    return doc.CheckDocument(
        cluster=status.cluster,
        node=status.node,
        fit=status.failover.possible and not any(finding.blocks and not finding.maintenance for finding in findings),
        findings=tuple(findings),
        failover=status.failover,
        unseen=tuple(_unseen(view, status)),
    )


def _checked(node: str, code: str, reason: str, *, maintenance: bool = False) -> doc.CheckedFinding:
    known = about(code)
    return doc.CheckedFinding(
        node=node,
        code=code,
        blocks=known.severity is Severity.BLOCKS,
        reason=reason,
        meaning=known.meaning,
        fix=known.fix,
        page=f"runbooks/codes/{code}.md",
        maintenance=maintenance,
    )


def _unseen(view: View, status: doc.StatusDocument) -> list[doc.Reason]:
    found = []
    if not status.store.reachable:
        found.append(doc.Reason(code="BLK_STORE", reason=status.store.error, node=status.store.node))
    for node in status.nodes:
        if not node.fresh:
            words = f"no report from {node.name} within {view.policy.report_max_age_ms} ms"
            found.append(doc.Reason(code="BLK_UNREACHABLE", reason=words, node=node.name))
        elif node.kind == "data" and not _settings_seen(view, node.name):
            words = f"the settings of the database on {node.name} have not been read"
            found.append(doc.Reason(code="BLK_DATABASE", reason=words, node=node.name))
        if node.fresh:
            found += _unmeasured(view, node.name)
    return found


def _unmeasured(view: View, name: str) -> list[doc.Reason]:
    """What monitoring cannot look at on a node: it neither stands nor is it gone."""
    if name == view.me.name:
        claims = [seen.claim() for seen in view.sightings]
    else:
        claims = [claim for report in view.reports if report.sender == name for claim in report.claims]
    return [
        doc.Reason(code=claim.code, reason=claim.reason, node=name)
        for claim in claims
        if claim.probe in PROBES and claim.target == name and claim.health is Health.UNKNOWN
    ]


def _settings_seen(view: View, name: str) -> bool:
    if name == view.me.name:
        return view.settings is not None
    return any(report.sender == name and report.identity is not None for report in view.reports)
