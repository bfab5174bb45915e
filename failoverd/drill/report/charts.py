"""The four charts: what clients saw of the fault and what the cluster did meanwhile; load; latency; lag.

Each says the same in words (`desc`), and what is told by a colour is told by a place, a line's kind or a word as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from failoverd.drill.model import PROTOCOLS, Gap, PhaseName
from failoverd.drill.report import svg
from failoverd.drill.report.svg import Axis, Panel
from failoverd.drill.report.words import duration, number, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from failoverd.drill.model import ChangePhase, Objective, Report
    from failoverd.drill.report.element import Markup

MOST_STEPS = 1200  # of a curve: more than a screen has columns, and what keeps a day's drill a small file
_LEAST_SPAN_MS = 4000
_BEFORE_LOAD_MS = 60_000
_HIGH = 90  # pixels of a panel
_CLIENT_ROW, _STEP_ROW = 40, 30
_TOP_LATENCY_MS = 100.0  # at least, so that quick servers do not look slow
Series = list[tuple[float, float | None]]


def zero_ms(report: Report) -> int | None:
    """When the fault was brought about, in ms of the drill: the phase's own word, or its beginning."""
    for phase in report.drill.phases:
        if phase.name == PhaseName.INJECT:
            told = phase.facts.get("injected_ms")
            return int(told) if isinstance(told, (int, float)) else phase.began_ms
    return None


def _phase_ms(report: Report, name: PhaseName) -> tuple[int, int | None] | None:
    return next(((phase.began_ms, phase.ended_ms) for phase in report.drill.phases if phase.name == name), None)


# ---- the fault -------------------------------------------------------------------------------------------------------


def at_fault(report: Report) -> tuple[Gap, ...]:
    """The times without service that belong to the fault; those of the way home come later, and would dwarf them."""
    observed = _phase_ms(report, PhaseName.OBSERVE)
    until = observed[1] if observed and observed[1] is not None else math.inf
    begin = zero_ms(report)
    return tuple(gap for gap in report.gaps if begin is not None and gap.from_ms < until and gap.until_ms > begin)


def timeline(report: Report) -> Markup | None:
    """The fault from the clients' side, with the steps of the change below; None where no fault was brought about."""
    zero = zero_ms(report)
    if zero is None:
        return None
    gaps = at_fault(report)
    steps = report.change.phases if report.change else ()
    ends = [zero, *(gap.until_ms for gap in gaps), *(step.ended_ms or step.began_ms for step in steps)]
    begins = [zero, *(gap.from_ms for gap in gaps), *(step.began_ms for step in steps)]
    span = max(_LEAST_SPAN_MS, max(ends) - min(begins))
    axis = Axis(min(begins) - span * 0.06, max(*ends, min(begins) + span) + span * 0.06, zero, "since the fault")
    nodes = dict.fromkeys(step.node for step in steps)
    own = (_steps(axis, node, [step for step in steps if step.node == node]) for node in nodes)
    panels = [_clients(axis, gaps, report.objectives), *own]
    about = [_gaps_said(gaps, zero)]
    about += [_step_said(step, zero) for step in steps]
    return svg.chart(
        "timeline",
        "What clients saw of the fault, and what each node did",
        " ".join(about),
        panels=panels,
        axis=axis,
        over=[svg.moment(axis, zero, "fault")],
    )


def _clients(axis: Axis, gaps: Sequence[Gap], objectives: Sequence[Objective]) -> Panel:
    marks: list[Markup] = []
    for row, protocol in enumerate(PROTOCOLS):
        own = [gap for gap in gaps if gap.protocol == protocol]
        y = row * _CLIENT_ROW
        longest = max((gap.until_ms - gap.from_ms for gap in own), default=0)
        limit = next((one for one in objectives if one.name.startswith(protocol.upper()) and one.unit == "s"), None)
        allowed = f", limit {duration(limit.limit * 1000)}" if limit else ""
        words = f"{protocol.upper()}: outage {duration(longest)}{allowed}" if own else f"{protocol.upper()}: served"
        begin = min((gap.from_ms for gap in own), default=axis.zero_ms)
        marks.append(svg.bar(axis, axis.from_ms, axis.until_ms, "served", y=y + 18, height=14))
        marks += [svg.bar(axis, gap.from_ms, gap.until_ms, "outage", y=y + 18, height=14) for gap in own]
        marks.append(
            svg.beside(axis, begin, max((gap.until_ms for gap in own), default=begin), words, y=y + 13, strong=True)
        )
    return Panel(label="Clients", height=len(PROTOCOLS) * _CLIENT_ROW, marks=marks)


def _steps(axis: Axis, node: str, steps: Sequence[ChangePhase]) -> Panel:
    marks: list[Markup] = []
    for row, step in enumerate(steps):
        y = row * _STEP_ROW
        end = axis.until_ms if step.ended_ms is None else step.ended_ms
        took = "not ended" if step.ended_ms is None else duration(step.ended_ms - step.began_ms)
        bad = "" if step.outcome in {"succeeded", "done"} else f" {step.outcome}"
        marks.append(svg.bar(axis, step.began_ms, end, "step failed" if bad else "step", y=y + 17, height=8))
        marks.append(svg.beside(axis, step.began_ms, end, f"{step.name} {took}{bad}", y=y + 13))
    return Panel(label=node, height=len(steps) * _STEP_ROW, marks=marks)


def _gaps_said(gaps: Sequence[Gap], zero: int) -> str:
    if not gaps:
        return "No protocol was without service for half a second or more."
    return " ".join(
        f"{gap.protocol.upper()} had no service for {duration(gap.until_ms - gap.from_ms)},"
        f" beginning {duration(abs(gap.from_ms - zero))} {'before' if gap.from_ms < zero else 'after'} the fault."
        for gap in gaps
    )


def _step_said(step: ChangePhase, zero: int) -> str:
    took = "did not end" if step.ended_ms is None else f"took {duration(step.ended_ms - step.began_ms)}"
    return f"{step.node}: {step.name} {took}, {duration(step.began_ms - zero)} after the fault, {step.outcome}."


# ---- the whole time --------------------------------------------------------------------------------------------------


def _whole(report: Report, at_ms: Iterable[int]) -> tuple[Axis, list[Markup]]:
    """The axis of the whole drill, and its moments."""
    moments = list(at_ms)
    zero, away = zero_ms(report), _phase_ms(report, PhaseName.RECOVER)
    begin, end = min(moments), max(moments) + 1000
    axis = Axis(
        begin, end, begin if zero is None else zero, "since the load began" if zero is None else "since the fault"
    )
    over = [] if zero is None else [svg.moment(axis, zero, "fault")]
    if away is not None and begin <= away[0] <= end:
        over.append(svg.moment(axis, away[0], "fault taken away"))
    return axis, over


def load(report: Report) -> Markup | None:
    """Operations a second that went well and that did not, for each protocol; users and sessions."""
    points = report.points
    if not points:
        return None
    axis, over = _whole(report, (point.at_ms for point in points))
    at = [float(point.at_ms) for point in points]
    panels, about = [], []
    for protocol in PROTOCOLS:
        ok = [float(getattr(point, f"{protocol}_ok")) for point in points]
        bad = [float(getattr(point, f"{protocol}_bad")) for point in points]
        panels.append(_operations(axis, protocol, _thin(at, ok, worst=False), _thin(at, bad, worst=True)))
        about.append(f"{protocol.upper()}: {plural(int(sum(ok)), 'operation')} went well, {number(sum(bad))} did not.")
    users = _thin(at, [float(point.users) for point in points], worst=True)
    sessions = _thin(at, [float(point.sessions) for point in points], worst=False)
    top = _nice(max(value or 0 for _, value in [*users, *sessions]))
    curves = [
        *svg.curve(axis, _scaled(sessions, top), "ok", filled=True),
        *svg.curve(axis, _scaled(users, top), "wish"),
    ]
    panels.append(Panel(label="Users", height=70, curves=curves, ticks=_linear(top)))
    about.append(f"At most {number(max(point.sessions for point in points))} sessions were logged in at once.")
    return svg.chart("load", "Load, and what of it failed", " ".join(about), panels=panels, axis=axis, over=over)


def _operations(axis: Axis, protocol: str, ok: Series, bad: Series) -> Panel:
    top = _nice(max(value or 0 for _, value in [*ok, *bad]))
    step_ms = ok[1][0] - ok[0][0] if len(ok) > 1 else 1000.0
    failed = [(at_ms, (value or 0) / top) for at_ms, value in bad]
    return Panel(
        label=f"{protocol.upper()}, operations a second",
        height=_HIGH,
        curves=[*svg.curve(axis, _scaled(ok, top), "ok", filled=True), *svg.columns(axis, failed, step_ms, "failed")],
        ticks=_linear(top),
    )


def latency(report: Report) -> Markup | None:
    """Of each second the latency that 95 of 100 operations kept to."""
    points = report.points
    series = {
        protocol: _thin(
            [float(point.at_ms) for point in points],
            [getattr(point, f"{protocol}_p95_ms") for point in points],
            worst=True,
        )
        for protocol in PROTOCOLS
    }
    known = [value for one in series.values() for _, value in one if value is not None]
    if not known:
        return None
    axis, over = _whole(report, (point.at_ms for point in points))
    limits = {
        protocol: _limit(report.objectives, f"{protocol.upper()}: latency under load, p95") for protocol in series
    }
    top = _decade(max(*known, *(limit or 0 for limit in limits.values())))
    panels, about = [], []
    for protocol, one in series.items():
        limit = limits[protocol]
        marks = [svg.level(_log(limit, top) * 100, f"limit under load {duration(limit)}")] if limit else []
        label = f"{protocol.upper()}, p95 of each second"
        curves = svg.curve(axis, [(at, None if value is None else _log(value, top)) for at, value in one], "ok")
        panels.append(Panel(label=label, height=_HIGH, marks=marks, curves=curves, ticks=_decades(top)))
        worst = max((value for _, value in one if value is not None), default=None)
        about.append(f"{protocol.upper()}: the worst second had a p95 of {duration(worst)}.")
    about.append("A line is broken where nothing was measured.")
    return svg.chart("latency", "Latency", " ".join(about), panels=panels, axis=axis, over=over)


def lag(report: Report) -> Markup | None:
    """Of each replica how far it was behind, and when nobody could tell."""
    # A backup may take hours before the load begins: they would leave no room for what matters.
    since = report.points[0].at_ms - _BEFORE_LOAD_MS if report.points else 0
    lags = [point for point in report.lag if point.at_ms >= since]
    replicas = list(dict.fromkeys(node for point in lags for node in point.lag_ms))
    if not replicas:
        return None
    axis, over = _whole(report, [*(point.at_ms for point in lags), *(point.at_ms for point in report.points)])
    at = [float(point.at_ms) for point in lags]
    known = [value for point in lags for value in point.lag_ms.values() if value is not None]
    top = _decade(max(known, default=0))
    panels, about = [], []
    for node in replicas:
        own = [point.lag_ms.get(node) for point in lags]
        series = _thin(at, [None if value is None else float(value) for value in own], worst=True)
        curves = svg.curve(
            axis, [(x, None if value is None else _log(value, top)) for x, value in series], "ok", filled=True
        )
        marks = [svg.band(axis, begin, end, "unseen-band") for begin, end in _unknown(series)]
        panels.append(Panel(label=node, height=56, marks=marks, curves=curves, ticks=_decades(top)))
        worst = max((value for value in own if value is not None), default=None)
        about.append(f"{node}: at most {duration(worst)} behind." if worst is not None else f"{node}: not known.")
    return svg.chart("lag", "Replication lag", " ".join(about), panels=panels, axis=axis, over=over)


def _unknown(series: Series) -> list[tuple[float, float]]:
    """From when to when a value was not known."""
    found: list[tuple[float, float]] = []
    began: float | None = None
    for at_ms, value in series:
        if value is None:
            began = at_ms if began is None else began
        elif began is not None:
            found.append((began, at_ms))
            began = None
    if began is not None:
        found.append((began, series[-1][0] + 1000))
    return found


# ---- scales ----------------------------------------------------------------------------------------------------------


def _thin(at: Sequence[float], values: Sequence[float | None], *, worst: bool) -> Series:
    """Not more than MOST_STEPS of them: of those that come together, the worst (highest), or their mean."""
    each = math.ceil(len(at) / MOST_STEPS) or 1
    thin: Series = []
    for begin in range(0, len(at), each):
        known = [value for value in values[begin : begin + each] if value is not None]
        value = None if not known else max(known) if worst else sum(known) / len(known)
        thin.append((at[begin], value))
    return thin


def _scaled(series: Series, top: float) -> Series:
    return [(at, None if value is None else value / top) for at, value in series]


def _nice(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 and so on."""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def _linear(top: float) -> list[tuple[float, str]]:
    return [(0, "0"), (50, number(top / 2, 1)), (100, number(top))]


def _decade(value: float) -> float:
    return max(_TOP_LATENCY_MS, 10.0 ** math.ceil(math.log10(max(1.0, value))))


def _log(value: float, top: float) -> float:
    """From 0 (0 ms) to 1: nothing at all has its place as well."""
    return math.log10(1 + value) / math.log10(1 + top)


def _decades(top: float) -> list[tuple[float, str]]:
    exponents = range(1, round(math.log10(top)) + 1)
    # Every second of many, so that they do not touch.
    kept = [exponent for exponent in exponents if len(exponents) <= 3 or (exponents[-1] - exponent) % 2 == 0]
    return [(0, "0"), *((_log(10.0**exponent, top) * 100, duration(10.0**exponent)) for exponent in kept)]


def _limit(objectives: Sequence[Objective], name: str) -> float | None:
    return next((one.limit for one in objectives if one.name == name), None)
