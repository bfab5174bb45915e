"""Two drills beside each other: what was better, what was worse, and what else differs.

Percentiles are bounds of buckets and clusters breathe: what is apart by no more than a tenth, or by 50 ms, is much the
same. A value that only one of the two has is named as such; reports of earlier versions have fewer (see kept.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from failoverd.drill.report.element import seen
from failoverd.drill.report.words import STAGES, duration, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from failoverd.drill.model import Report

Verdict = Literal["better", "worse", "much the same", "differs"]
_NEAR = 0.1
_NEAR_MS = 50
_OUTCOMES = ("passed", "failed", "aborted", "skipped", "under-way")
STYLES = {"better": "green", "worse": "bold red", "much the same": "dim", "differs": "yellow"}
Value = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not the same. `unit`: ms, "" for a count or a word, bool as "met" and "missed"."""

    what: str
    before: Value
    after: Value
    unit: Literal["ms", "%", "s", ""]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `failoverctl drill compare` says. `before` and `after` are the drills' ids, in the order given."""

    api: Literal["v1"] = "v1"
    before: str
    after: str
    differences: tuple[Difference, ...]


def compare(before: Report, after: Report) -> Comparison:
    """Everything in which `after` is unlike `before`."""
    found = chain(
        _ending(before, after),
        _measures("ms", _outages(before), _outages(after)),
        _objectives(before, after),
        _measures("ms", _percentiles(before), _percentiles(after)),
        _measures("", _bad(before), _bad(after)),
        _measures("ms", _phases(before), _phases(after)),
        _measures("ms", _lag(before), _lag(after)),
        _texts(before, after),
    )
    return Comparison(before=before.drill.asked.id, after=after.drill.asked.id, differences=tuple(found))


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Plain types, for --output json."""
    return asdict(comparison)


def table(comparison: Comparison) -> Table:
    """The same for a terminal."""
    from rich.table import Table  # noqa: PLC0415 - rich is slow to import and only needed here
    from rich.text import Text  # noqa: PLC0415 - likewise

    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("WHAT", seen(comparison.before), seen(comparison.after), ""):
        drawn.add_column(Text(title), overflow="fold")
    for one in comparison.differences:
        style = STYLES[one.verdict]
        words = (_said(one.before, one.unit), _said(one.after, one.unit))
        drawn.add_row(Text(seen(one.what)), *(Text(word) for word in words), Text(one.verdict, style))
    return drawn


def _said(value: Value, unit: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return seen(value)[:200]
    if unit in {"ms", "s"}:
        return duration(value * 1000 if unit == "s" else value)
    return f"{number(value, 2)} {unit}".rstrip()


# ---- measures: less is better ----------------------------------------------------------------------------------------

Measured = dict[str, float | None]


def _measures(unit: Literal["ms", ""], before: Measured, after: Measured) -> Iterator[Difference]:
    for what in dict.fromkeys([*before, *after]):
        was, now = before.get(what), after.get(what)
        if was != now:
            yield Difference(what=what, before=was, after=now, unit=unit, verdict=_judged(was, now, unit))


def _judged(was: float | None, now: float | None, unit: str) -> Verdict:
    if was is None or now is None:
        return "differs"
    if unit == "ms" and abs(now - was) <= max(_NEAR_MS, _NEAR * was):
        return "much the same"
    return "better" if now < was else "worse"


def _outages(report: Report) -> Measured:
    return {
        f"{one.protocol.upper()} without service, {STAGES[one.stage]}": float(one.outage_ms) for one in report.protocols
    }


def _percentiles(report: Report) -> Measured:
    return {
        f"{one.protocol.upper()} {name}, {STAGES[one.stage]}": value
        for one in report.protocols
        for name, value in (("p50", one.p50_ms), ("p95", one.p95_ms), ("p99", one.p99_ms))
    }


def _bad(report: Report) -> Measured:
    return {
        f"{one.protocol.upper()} operations not good, {STAGES[one.stage]}": float(
            one.failed + one.refused + one.rejected
        )
        for one in report.protocols
    }


def _phases(report: Report) -> Measured:
    return {
        f"phase {phase.name.value}": None if phase.ended_ms is None else float(phase.ended_ms - phase.began_ms)
        for phase in report.drill.phases
    }


def _lag(report: Report) -> Measured:
    worst: Measured = {}
    for point in report.lag:
        for node, lag_ms in point.lag_ms.items():
            if lag_ms is not None:
                worst[f"worst lag of {node}"] = max(float(lag_ms), worst.get(f"worst lag of {node}") or 0.0)
    return worst


# ---- words -----------------------------------------------------------------------------------------------------------


def _ending(before: Report, after: Report) -> Iterator[Difference]:
    was, now = before.drill.outcome, after.drill.outcome
    if was != now:
        verdict: Verdict = "better" if _OUTCOMES.index(now) < _OUTCOMES.index(was) else "worse"
        yield Difference(what="outcome", before=was, after=now, unit="", verdict=verdict)
    yield from _text("code", before.drill.code, after.drill.code)


def _objectives(before: Report, after: Report) -> Iterator[Difference]:
    was = {one.name: one for one in before.objectives}
    now = {one.name: one for one in after.objectives}
    for name in dict.fromkeys([*was, *now]):
        first, second = was.get(name), now.get(name)
        met = [None if one is None else "met" if one.met else "missed" for one in (first, second)]
        if met[0] != met[1]:
            verdict: Verdict = "differs" if None in met else "better" if met[1] == "met" else "worse"
            yield Difference(what=f"objective “{name}”", before=met[0], after=met[1], unit="", verdict=verdict)
        if first and second and first.limit != second.limit:
            unit: Any = first.unit
            what = f"limit of “{name}”"
            yield Difference(what=what, before=first.limit, after=second.limit, unit=unit, verdict="differs")


def _texts(before: Report, after: Report) -> Iterator[Difference]:
    yield from _text("scenario", before.drill.asked.scenario, after.drill.asked.scenario)
    yield from _text("cluster", before.drill.cluster, after.drill.cluster)
    yield from _text("users", before.drill.asked.users, after.drill.asked.users)
    yield from _text("load, seconds", before.drill.asked.duration_s, after.drill.asked.duration_s)
    for node in dict.fromkeys([*before.software, *after.software]):
        yield from _text(f"failoverd on {node}", before.software.get(node), after.software.get(node))
    yield from _text("configuration", before.config_digest, after.config_digest)
    roles = [
        (report.change.previous, report.change.holder) if report.change else (None, None) for report in (before, after)
    ]
    yield from _text("old primary", roles[0][0], roles[1][0])
    yield from _text("new primary", roles[0][1], roles[1][1])


def _text(what: str, was: Value, now: Value) -> Iterator[Difference]:
    if was != now:
        yield Difference(what=what, before=was, after=now, unit="", verdict="differs")
