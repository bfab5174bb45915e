"""The frame of every chart: panels one above the other, one axis of time, and what tells a reader without eyes.

Letters and lines keep their size at every width: the outer picture has no viewBox, places are percentages of what its
padding leaves, and only curves are drawn in a stretched picture of their own. So one picture serves a phone, a screen
and a sheet of paper, in either colour scheme, since colours are the page's.

    ┌ label, unit ────────────────┐
    │ 100 ┤      panel            │   each: a label, ticks, marks in percent, curves stretched
    │   0 ┤ ▁▂▂▂▂  ▂▂▂▂▂▂▂        │
    ├ label ──────────────────────┤
    │     └──┬────┬────┬────┬──   │   one axis of time
    └ seconds since the fault ────┘
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.drill.report.element import Markup, h
from failoverd.drill.report.words import number

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDE, HIGH = 1200, 200  # of a curve's own picture
_LEFT, _HEAD, _TOP, _UNDER, _GAP, _FOOT = 52, 10, 22, 12, 10, 40  # _LEFT is the padding of .ticked as well
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600)
_MOST_TICKS = 7
_WORDS = 60  # characters of a label: names are the cluster's own, and may be anything


@dataclass(frozen=True, slots=True)
class Axis:
    """Time from left to right, in ms of the drill; `zero_ms` is where it counts from, `words` what that is."""

    from_ms: float
    until_ms: float
    zero_ms: float
    words: str

    def percent(self, at_ms: float) -> float:
        """Where a moment is; what lies outside is at the edge."""
        return min(100.0, max(0.0, (at_ms - self.from_ms) * 100 / (self.until_ms - self.from_ms)))

    def ticks(self) -> tuple[str, list[tuple[float, str]]]:
        """The unit, and where to write what."""
        span_s = (self.until_ms - self.from_ms) / 1000
        step_s = next((step for step in _STEPS_S if span_s / step <= _MOST_TICKS), 86_400.0)
        unit, divisor = ("minutes", 60) if step_s >= 60 else ("seconds", 1)
        begin_s = (self.from_ms - self.zero_ms) / 1000
        first, last = math.ceil(begin_s / step_s), math.floor((begin_s + span_s) / step_s)
        at = [count * step_s for count in range(first, last + 1)]
        return unit, [
            (self.percent(s * 1000 + self.zero_ms), number(s / divisor, 1).replace("-", "\N{MINUS SIGN}")) for s in at
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture of a chart. `marks` lie in percent, `curves` are stretched; `ticks`: percent from below, words."""

    label: str
    height: int
    marks: Sequence[Markup] = ()
    curves: Sequence[Markup] = ()
    ticks: Sequence[tuple[float, str]] = ()


def chart(
    name: str, title: str, about: str, *, panels: Sequence[Panel], axis: Axis, over: Sequence[Markup] = ()
) -> Markup:
    """Draw them. `over` is drawn across all panels (the fault, say); `name` makes the ids unique in the page."""
    y, drawn = _TOP + (_HEAD if over else 0), []
    ticked = any(panel.ticks for panel in panels)
    for panel in panels:
        drawn.append(h("text", _short(panel.label), of={"class": "label", "x": -_LEFT if ticked else 0, "y": y}))
        drawn.append(_panel(panel, y + _UNDER))
        y += panel.height + _UNDER + _TOP + _GAP
    foot = y - _TOP - _GAP
    whole = _plot(0, foot, over)
    height = foot + _FOOT
    return h(
        "svg",
        h("title", title, of={"id": f"{name}-title"}),
        h("desc", about, of={"id": f"{name}-about"}),
        h("g", whole, drawn, _foot(axis, foot), of={"aria-hidden": "true"}),
        of={
            "class": "chart ticked" if ticked else "chart",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-about",
            "width": "100%",
            "height": height,
        },
    )


def _plot(y: float, height: float, children: Sequence[Markup]) -> Markup:
    return h("svg", children, of={"y": y, "width": "100%", "height": height})


def _short(words: str) -> str:
    return words if len(words) <= _WORDS else f"{words[:_WORDS]}…"


def _panel(panel: Panel, y: int) -> Markup:
    grid = []
    for percent, words in panel.ticks:
        at = f"{100 - percent:g}%"
        grid.append(h("line", of={"class": "grid", "x1": "0", "x2": "100%", "y1": at, "y2": at}))
        grid.append(h("text", words, of={"class": "tick", "x": -6, "y": at, "dy": 4, "text-anchor": "end"}))
    frame = {"viewBox": f"0 0 {WIDE} {HIGH}", "preserveAspectRatio": "none", "width": "100%", "height": "100%"}
    curves = h("svg", panel.curves, of=frame) if panel.curves else None
    return _plot(y, panel.height, [*grid, *([curves] if curves else []), *panel.marks])


def _foot(axis: Axis, y: int) -> Markup:
    unit, ticks = axis.ticks()
    parts = [h("line", of={"class": "axis", "x1": "0", "x2": "100%", "y1": 1, "y2": 1})]
    for percent, words in ticks:
        at = f"{percent:.2f}%"
        parts.append(h("line", of={"class": "axis", "x1": at, "x2": at, "y1": 1, "y2": 6}))
        parts.append(h("text", words, of={"class": "tick", "x": at, "y": 18, "text-anchor": "middle"}))
    parts.append(h("text", f"{unit} {axis.words}", of={"class": "unit", "x": "100%", "y": 35, "text-anchor": "end"}))
    return _plot(y, _FOOT, parts)


# ---- marks, in percent -----------------------------------------------------------------------------------------------


def band(axis: Axis, from_ms: float, until_ms: float, kind: str) -> Markup:
    """A stretch of time, as high as its panel."""
    x, end = axis.percent(from_ms), axis.percent(until_ms)
    return h("rect", of={"class": kind, "x": f"{x:.2f}%", "y": "0", "width": f"{end - x:.2f}%", "height": "100%"})


def bar(axis: Axis, from_ms: float, until_ms: float, kind: str, *, y: int, height: int) -> Markup:
    """A stretch of time as a bar, which is seen however short it is."""
    x, end = axis.percent(from_ms), axis.percent(until_ms)
    width = max(end - x, 0.5)
    place = {"x": f"{min(x, 99.5):.2f}%", "y": y, "width": f"{width:.2f}%", "height": height, "rx": 1}
    return h("rect", of={"class": kind, **place})


def beside(axis: Axis, from_ms: float, until_ms: float, words: str, *, y: int, strong: bool = False) -> Markup:
    """Words above a bar: they begin with it, or end with it, where there is more room."""
    begin, end = axis.percent(from_ms), axis.percent(until_ms)
    right = begin > 100 - end and begin > 45
    place = {"x": f"{end if right else begin:.2f}%", "y": y, "text-anchor": "end" if right else "start"}
    return h("text", _short(words), of={"class": "strong" if strong else "word", **place})


def moment(axis: Axis, at_ms: float, words: str) -> Markup:
    """A line from top to bottom, with a word at its head, on the side where there is room."""
    x = axis.percent(at_ms)
    side: dict[str, object] = {"text-anchor": "end", "dx": -4} if x > 60 else {"dx": 4}
    place = f"{x:.2f}%"
    line = h("line", of={"class": "moment", "x1": place, "x2": place, "y1": 0, "y2": "100%"})
    return Markup(line + h("text", words, of={"class": "moment-word", "x": place, "y": 10, **side}))


def level(percent: float, words: str) -> Markup:
    """A dashed line across: a limit."""
    at = f"{100 - percent:.2f}%"
    line = h("line", of={"class": "limit", "x1": "0", "x2": "100%", "y1": at, "y2": at})
    return Markup(
        line + h("text", words, of={"class": "limit-word", "x": "100%", "y": at, "dy": -4, "text-anchor": "end"})
    )


# ---- curves, in WIDE by HIGH ---------------------------------------------------------------------------------------


def curve(axis: Axis, series: Sequence[tuple[float, float | None]], kind: str, *, filled: bool = False) -> list[Markup]:
    """A line through (ms, 0…1), broken where a value is None; `filled` down to the panel's foot."""
    runs: list[list[str]] = [[]]
    for at_ms, value in series:
        if value is None:
            if runs[-1]:
                runs.append([])
            continue
        x = round(axis.percent(at_ms) * WIDE / 100)
        y = round(HIGH - HIGH * min(1.0, max(0.0, value)))
        runs[-1].append(f"{x},{y}")
    drawn = []
    for run in filter(None, runs):
        points = run if len(run) > 1 else [*run, *run]  # a lone point is drawn by its round cap
        if filled:
            left, right = points[0].partition(",")[0], points[-1].partition(",")[0]
            drawn.append(
                h("path", of={"class": f"{kind} area", "d": f"M{left},{HIGH} {' '.join(points)} {right},{HIGH}z"})
            )
        drawn.append(h("path", of={"class": f"{kind} line", "d": f"M{' '.join(points)}"}))
    return drawn


def columns(axis: Axis, series: Sequence[tuple[float, float]], step_ms: float, kind: str) -> list[Markup]:
    """A column for each (ms, 0…1) that is more than nothing, `step_ms` wide; as one path."""
    parts = []
    width = max(2, round((axis.percent(axis.from_ms + step_ms)) * WIDE / 100))
    for at_ms, value in series:
        if value > 0:
            height = max(4, round(HIGH * min(1.0, value)))
            parts.append(f"M{round(axis.percent(at_ms) * WIDE / 100)},{HIGH}v-{height}h{width}v{height}z")
    return [h("path", of={"class": kind, "d": "".join(parts)})] if parts else []
