"""What the load has measured: percentiles, seconds of the charts, and the times without service. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter as Count
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, get_args

from failoverd.drill.model import PROTOCOLS, Gap, Point, ProtocolFigures, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from failoverd.drill.model import Protocol, Second, Tally
    from failoverd.drill.report.evidence import Evidence

STAGES: tuple[Stage, ...] = get_args(Stage)
AFTER_FAULT: frozenset[Stage] = frozenset({"fault", "load", "ending"})
_SECOND_MS = 1000
_LEAST_GAP_MS = 500  # shorter times without a good beat are no gaps


def epoch_ms(moment: str) -> int:
    """A moment of a document, ISO 8601 with its zone, as ms of CLOCK_REALTIME."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


# ---- latency ---------------------------------------------------------------------------------------------------------


def percentile(histogram: Mapping[str, int], percent: float) -> float | None:
    """Nearest rank: the upper bound of the bucket in which that operation lies, so that it is never told too low.

    None where the histogram is empty.
    """
    total = sum(histogram.values())
    if total <= 0:
        return None
    seen = 0
    bounds = sorted((float(bound), count) for bound, count in histogram.items() if count > 0)
    for bound, count in bounds:
        seen += count
        if seen * 100 >= percent * total:
            return bound
    return bounds[-1][0]


def points(seconds: Iterable[Second], began_ms: int) -> Iterator[Point]:
    """One for each second, in ms of the drill."""
    for second in seconds:
        yield Point(
            at_ms=second.at_ms - began_ms,
            users=second.users,
            sessions=second.sessions,
            imap_ok=second.imap.ok,
            imap_bad=_bad(second.imap),
            smtp_ok=second.smtp.ok,
            smtp_bad=_bad(second.smtp),
            imap_p95_ms=percentile(second.imap.latency, 95),
            smtp_p95_ms=percentile(second.smtp.latency, 95),
        )


def protocols(evidence: Evidence) -> tuple[ProtocolFigures, ...]:
    """Each protocol in each stage that there was."""
    told = gaps(evidence)
    stages = [stage for stage in STAGES if any(second.stage == stage for second in evidence.seconds)]
    return tuple(_figures(evidence.seconds, told, protocol, stage) for stage in stages for protocol in PROTOCOLS)


def _figures(seconds: Sequence[Second], told: Sequence[Gap], protocol: Protocol, stage: Stage) -> ProtocolFigures:
    tallies = [_tally(second, protocol) for second in seconds if second.stage == stage]
    latency: Count[str] = Count()
    for tally in tallies:
        latency.update(tally.latency)
    ok = sum(tally.ok for tally in tallies)
    failed, refused, rejected, unknown = (
        sum(getattr(tally, name) for tally in tallies) for name in ("failed", "refused", "rejected", "unknown")
    )
    begun = [gap for gap in told if gap.protocol == protocol and _stage_of(seconds, gap) == stage]
    return ProtocolFigures(
        protocol=protocol,
        stage=stage,
        operations=ok + failed + unknown + refused + rejected,
        failed=failed + unknown,  # people see an error in both; what may have been taken stands with the counters
        refused=refused,
        rejected=rejected,
        p50_ms=percentile(latency, 50),
        p95_ms=percentile(latency, 95),
        p99_ms=percentile(latency, 99),
        max_ms=percentile(latency, 100),
        outage_ms=max((gap.until_ms - gap.from_ms for gap in begun), default=0),
    )


def _tally(second: Second, protocol: Protocol) -> Tally:
    return second.imap if protocol == "imap" else second.smtp


def _bad(tally: Tally) -> int:
    return tally.failed + tally.refused + tally.rejected + tally.unknown


# ---- outages ---------------------------------------------------------------------------------------------------------


def gaps(evidence: Evidence) -> tuple[Gap, ...]:
    """The times without one good beat, by CLOCK_REALTIME: the generator's, or from its seconds where it did not end.

    The second way knows them to a second only, and rather too long than too short: a second with good and bad beats
    beside one without good ones is taken as bad. Of an outage of less than two seconds it may know nothing.
    """
    if evidence.generator is not None:
        return evidence.generator.gaps
    return tuple(chain.from_iterable(_gaps_of(evidence.seconds, protocol) for protocol in PROTOCOLS))


def _gaps_of(seconds: Sequence[Second], protocol: Protocol) -> Iterator[Gap]:
    began: int | None = None
    good_ms: int | None = None  # until when it certainly was good
    end_ms = 0
    for second in seconds:
        tally = _tally(second, protocol)
        end_ms = second.at_ms + _SECOND_MS
        if tally.beats_ok:
            good_ms = second.at_ms if tally.beats_failed else end_ms
            if began is not None:
                yield Gap(protocol=protocol, from_ms=began, until_ms=end_ms if tally.beats_failed else second.at_ms)
                began, good_ms = None, end_ms
        elif tally.beats_failed and began is None:
            began = second.at_ms if good_ms is None else good_ms
    if began is not None:
        yield Gap(protocol=protocol, from_ms=began, until_ms=end_ms)


def since(gap: Gap, began_ms: int) -> Gap:
    """The same in ms of the drill."""
    return replace(gap, from_ms=gap.from_ms - began_ms, until_ms=gap.until_ms - began_ms)


def _stage_of(seconds: Sequence[Second], gap: Gap) -> Stage | None:
    """In which stage it began: half a second after the last good beat, which may well have been before the fault."""
    return _stage_at(seconds, min(gap.from_ms + _LEAST_GAP_MS, gap.until_ms))


def _stage_at(seconds: Sequence[Second], at_ms: int) -> Stage | None:
    """In which stage a moment lay; before the first second it is the first one's."""
    if not seconds:
        return None
    return seconds[max(0, bisect_right(seconds, at_ms, key=lambda second: second.at_ms) - 1)].stage


def outage_ms(evidence: Evidence, protocol: Protocol) -> int | None:
    """The longest from the fault on, taking it away and the way home with it: clients suffer from those as well."""
    if not any(second.stage in AFTER_FAULT for second in evidence.seconds):
        return None
    return max(one.outage_ms for one in protocols(evidence) if one.protocol == protocol and one.stage in AFTER_FAULT)
