"""What monitoring measures: numbers for whoever draws graphs, and findings. Nothing of it is decided on.

    latency     every node     how long the looks at the mail services took that were made here
    logins      a data node    logins and deliveries, counted in the journal
    sessions    a data node    who is logged in to IMAP, as Dovecot says
    processes   a data node    what Postfix and Dovecot use
    statements  a data node    what the database is long at

A reading of these probes that FAILED makes findings (`found`) and nothing else: no service is named like one of them,
so that no vote, no restart and no election asks for them. A test holds that for every rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# The probes' names. Policy.services may have none of them.
PROBES = frozenset({"latency", "logins", "sessions", "processes", "statements"})

Found = tuple[tuple[str, str], ...]  # (code, reason)


@dataclass(frozen=True, slots=True)
class LatencyFacts:
    """(service, of which node, mean in ms), of the looks of one window."""

    means: tuple[tuple[str, str, int], ...] = ()
    found: Found = ()


@dataclass(frozen=True, slots=True)
class LoginFacts:
    """Counted since the daemon began to read; deliveries also a second, over the last minute."""

    accepted: int
    refused: int
    deliveries: int
    deliveries_per_s: float
    found: Found = ()


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """IMAP connections that are logged in."""

    imap: int


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """Postfix's share of one core, None before two samples or where no Postfix runs."""

    postfix_cpu_percent: float | None
    found: Found = ()


@dataclass(frozen=True, slots=True)
class StatementFacts:
    """`slow` is the server's own count since its start; `counts_ms` from how long a statement on it counts.

    `running` are (session, user, ms) of what runs longer than asked for.
    """

    slow: int
    counts_ms: int
    running: tuple[tuple[int, str, int], ...] = ()
    found: Found = ()


MonitoringFacts = LatencyFacts | LoginFacts | SessionFacts | ProcessFacts | StatementFacts
FINDING = (LatencyFacts, LoginFacts, ProcessFacts, StatementFacts)  # those with `found`


@dataclass(frozen=True, slots=True)
class Gauges:
    """All of one node's, as last measured; None is not known."""

    latency: tuple[tuple[str, str, int], ...] = ()
    imap_connections: int | None = None
    logins_accepted: int | None = None
    logins_refused: int | None = None
    deliveries: int | None = None
    deliveries_per_s: float | None = None
    postfix_cpu_percent: float | None = None
    slow_queries: int | None = None


def gauges(seen: Iterable[object]) -> Gauges | None:
    """Put together what a node's probes found; None where it measures nothing of this."""
    known: dict[str, object] = {}
    for facts in seen:
        match facts:
            case LatencyFacts():
                known |= {"latency": facts.means}
            case LoginFacts():
                known |= {
                    "logins_accepted": facts.accepted,
                    "logins_refused": facts.refused,
                    "deliveries": facts.deliveries,
                    "deliveries_per_s": facts.deliveries_per_s,
                }
            case SessionFacts():
                known |= {"imap_connections": facts.imap}
            case ProcessFacts():
                known |= {"postfix_cpu_percent": facts.postfix_cpu_percent}
            case StatementFacts():
                known |= {"slow_queries": facts.slow}
            case _:
                pass
    return Gauges(**known) if known else None  # type: ignore[arg-type]  # each of its own type, see above
