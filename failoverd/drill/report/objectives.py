"""What a drill had to meet, what came of it, and what to mend. Pure.

What was not measured is None and is not met: silence is no evidence.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from failoverd.drill.model import PROTOCOLS, Advice, Objective, PhaseName
from failoverd.drill.report import measured
from failoverd.drill.report.words import wanted as wanted_words
from failoverd.drill.report.words import was

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from failoverd.config.drill import Objectives
    from failoverd.drill.model import Consistency, Drill, PhaseResult, ProtocolFigures
    from failoverd.drill.report.evidence import Evidence

LATE_LIMIT_MS = 100.0  # a generator that begins later than that measures itself
COUNTERS_LIMIT_PERCENT = 5.0
NO_PRIMARY = "longest time without a primary"
LOST = "acknowledged messages lost"
TWICE = "acknowledged messages there twice"
TABLES = "tables that differ between nodes"
MAILBOXES = "mailboxes that differ between nodes"
LATE = "load generator: own lateness, p99"
HOME = "old primaries not back as replicas"
BACKUP = "backups not shown to start"
_SHOWN = 20  # Message-IDs and names that one piece of advice repeats


def objectives(evidence: Evidence, wanted: Objectives) -> tuple[Objective, ...]:
    """Each that this drill had to meet, in the order in which an auditor asks."""
    return tuple(
        chain(
            _of_outage(evidence, wanted),
            _of_data(evidence),
            # Whoever asked for no users asked for no figures of theirs.
            _of_load(evidence, wanted) if evidence.drill.asked.users else (),
            _of_honesty(evidence) if evidence.drill.asked.users else (),
            _of_ending(evidence),
        )
    )


def _objective(name: str, limit: float, value: float | None, unit: str = "") -> Objective:
    return Objective(name=name, limit=limit, value=value, unit=unit, met=value is not None and value <= limit)


def _of_outage(evidence: Evidence, wanted: Objectives) -> Iterator[Objective]:
    if not evidence.drill.asked.users:
        if evidence.change is not None:
            known = evidence.change.outage_ms
            yield _objective(NO_PRIMARY, wanted.outage_ms / 1000, None if known is None else known / 1000, "s")
        return
    for protocol in PROTOCOLS:
        outage_ms = measured.outage_ms(evidence, protocol)
        seconds = None if outage_ms is None else outage_ms / 1000
        yield _objective(f"{protocol.upper()}: longest time without service", wanted.outage_ms / 1000, seconds, "s")


def _of_data(evidence: Evidence) -> Iterator[Objective]:
    found = evidence.consistency
    yield _objective(LOST, 0, found.lost_count if found else None)
    yield _objective(TWICE, 0, found.twice_count if found else None)
    yield _objective(TABLES, 0, _tables_apart(found) if found else None)
    yield _objective(MAILBOXES, 0, len(found.mailboxes_differ) if found else None)


def _tables_apart(found: Consistency) -> int | None:
    """How many; None where there was none to compare, which proves nothing."""
    return sum(not table.same for table in found.tables) if found.tables else None


def _of_load(evidence: Evidence, wanted: Objectives) -> Iterator[Objective]:
    under_load = {one.protocol: one for one in measured.protocols(evidence) if one.stage == "load"}
    for protocol in PROTOCOLS:
        one = under_load.get(protocol)
        p50, p95, p99 = (one.p50_ms, one.p95_ms, one.p99_ms) if one else (None, None, None)
        of = f"{protocol.upper()}: latency under load"
        yield _objective(f"{of}, p50", wanted.p50_ms, p50, "ms")
        yield _objective(f"{of}, p95", wanted.p95_ms, p95, "ms")
        yield _objective(f"{of}, p99", wanted.p99_ms, p99, "ms")
        errors = _errors(one) if one else None
        yield _objective(f"{protocol.upper()}: errors under load", wanted.errors_percent, errors, "%")


def _errors(one: ProtocolFigures) -> float | None:
    """Of all that was tried; None where nothing was."""
    return (one.failed + one.refused + one.rejected) * 100 / one.operations if one.operations else None


def _of_honesty(evidence: Evidence) -> Iterator[Objective]:
    yield _objective(LATE, LATE_LIMIT_MS, evidence.generator.late_p99_ms if evidence.generator else None, "ms")
    for counter in evidence.counters:
        name = f"{counter.name}: generator and servers apart"
        yield _objective(name, COUNTERS_LIMIT_PERCENT, counter.apart_percent, "%")
    if not evidence.counters:
        yield _objective("generator and servers apart", COUNTERS_LIMIT_PERCENT, None, "%")


def _of_ending(evidence: Evidence) -> Iterator[Objective]:
    rejoin = _phase(evidence.drill, PhaseName.REJOIN)
    if rejoin is None or rejoin.outcome != "skipped":
        value = {"passed": 0, "failed": 1}.get(rejoin.outcome) if rejoin else None
        yield _objective(HOME, 0, value)
    if evidence.drill.asked.backup != "none":
        yield _objective(BACKUP, 0, 0 if evidence.backup else None)


def _phase(drill: Drill, name: PhaseName) -> PhaseResult | None:
    return next((phase for phase in drill.phases if phase.name == name), None)


# ---- what to mend ----------------------------------------------------------------------------------------------------

_CODES = {
    LOST: "DRILL_LOST",
    TWICE: "DRILL_TWICE",
    TABLES: "DRILL_DIFFERS",
    MAILBOXES: "DRILL_DIFFERS",
    HOME: "DRILL_NOT_HOME",
    BACKUP: "DRILL_BACKUP_UNVERIFIED",
}


def advice(evidence: Evidence, found: Sequence[Objective]) -> Iterator[Advice]:
    """Why it did not pass, the first cause first: what failed, then each objective that was missed.

    What was not measured is one piece of advice, and none where a phase that failed says why.
    """
    bad = [phase for phase in evidence.drill.phases if phase.outcome in {"failed", "aborted"} and phase.code]
    for phase in bad:
        yield _advice(phase.code, f"{phase.name.value}: {phase.reason}")
    drill, told = evidence.drill, {phase.code for phase in bad}  # a phase says more than its objective
    if drill.code and drill.code not in {"DRILL_OBJECTIVE", *told}:
        yield _advice(drill.code, drill.reason)
    for one in found:
        code = _CODES.get(one.name, "DRILL_OBJECTIVE")
        if not one.met and one.value is not None and (one.name != HOME or code not in told):
            yield _advice(code, _missed(one, evidence), _where(one, evidence))
    unknown = [one.name for one in found if one.value is None]
    if unknown and not bad and drill.code in {"", "DRILL_OBJECTIVE"} and drill.outcome != "under-way":
        yield _advice("DRILL_OBJECTIVE", f"not measured: {', '.join(unknown)}")


def _advice(code: str, reason: str, node: str = "") -> Advice:
    return Advice(code=code, node=node, reason=reason, page=f"codes/{code}.md")


def _missed(one: Objective, evidence: Evidence) -> str:
    words = f"{one.name}: {was(one)}, wanted: {wanted_words(one)}"
    found = evidence.consistency
    named: Sequence[str] = ()
    if found is not None:
        named = {
            LOST: found.lost,
            TWICE: found.twice,
            TABLES: [table.name for table in found.tables if not table.same],
            MAILBOXES: found.mailboxes_differ,
        }.get(one.name, ())
    return f"{words} ({', '.join(named[:_SHOWN])})" if named else words


def _where(one: Objective, evidence: Evidence) -> str:
    """On which node, where that can be told: the only one whose table is unlike the others'; the one not back."""
    found, cast_ = evidence.consistency, evidence.drill.cast
    if one.name == HOME:
        return cast_.primary if cast_ else ""
    if one.name != TABLES or found is None:
        return ""
    odd = {_odd(table.digests) for table in found.tables if not table.same}
    return odd.pop() if len(odd) == 1 else ""


def _odd(digests: Mapping[str, str]) -> str:
    """Which node is unlike all others; "" where none is, or of two, of which either may be wrong."""
    alone = [node for node, digest in digests.items() if list(digests.values()).count(digest) == 1]
    return alone[0] if len(alone) == 1 and len(digests) > 2 else ""
