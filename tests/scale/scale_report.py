"""The curves of the scale benchmark: a table to be read in a terminal, and one picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WIDE, _HIGH, _LEFT, _TOP = 400, 190, 60, 40  # of a panel, and where its curves begin
_COLOURS = ("#1f77b4", "#ff7f0e", "#d62728", "#2ca02c")

Run = dict[str, Any]


def _all_at_once(run: Run, what: str) -> float:
    """A figure of the failover of all clusters; not a number where it was not run, or nobody took over."""
    found = [one for one in run["failovers"] if one["share"] == "all"]
    return float(found[0]["from_the_last_renewal_ms"].get(what, math.nan)) / 1000 if found else math.nan


def _taken(run: Run, share: str, what: str) -> object:
    found = [one["from_the_last_renewal_ms"] for one in run["failovers"] if one["share"] == share]
    return round(found[0][what] / 1000, 2) if found and what in found[0] else "-"


def _overlaps(run: Run) -> int:
    return int(run["steady"]["overlaps"]) + sum(one["cost"]["overlaps"] for one in run["failovers"])


def _most_in_use(run: Run) -> float:
    seen = [row["in_use_bytes"] for row in run["by_second"] if "in_use_bytes" in row]
    return float(max([*seen, run["steady"]["in_use_bytes"]]))


ROWS: tuple[tuple[str, Callable[[Run], object]], ...] = (
    ("clusters", lambda run: run["clusters"]),
    ("etcd", lambda run: run["version"]),
    ("steady state, s", lambda run: run["steady"]["seconds"]),
    ("swaps a second", lambda run: run["steady"]["transactions_a_second"]),
    ("reads a second", lambda run: run["steady"]["reads_a_second"]),
    ("watch events a second", lambda run: run["steady"]["events_a_second"]),
    ("renewal p50, ms", lambda run: run["steady"]["renewal_ms"].get("p50", "-")),
    ("renewal p99, ms", lambda run: run["steady"]["renewal_ms"].get("p99", "-")),
    ("renewal max, ms", lambda run: run["steady"]["renewal_ms"].get("max", "-")),
    ("renewals unanswered", lambda run: run["steady"]["timeouts"]),
    ("leases lost for no reason", lambda run: run["steady"]["lost"]),
    ("etcd's cores, all members", lambda run: round(sum(run["steady"]["etcd_cores"]), 2)),
    ("generator's cores", lambda run: run["steady"]["generator_cores"]),
    ("cores idle", lambda run: run["steady"]["idle_cores"]),
    ("WAL fsync p50, ms", lambda run: run["steady"]["fsync_ms"]["p50"]),
    ("WAL fsync p99, ms", lambda run: run["steady"]["fsync_ms"]["p99"]),
    ("in use a cluster, KB", lambda run: round(_most_in_use(run) / run["clusters"] / 1000, 1)),
    ("largest member, MB", lambda run: round(max(run["steady"]["memory_bytes"]) / 1e6)),
    *(
        (f"new primary, {share}: {what}, s", lambda run, share=share, what=what: _taken(run, share, what))
        for share in ("1%", "10%", "all")
        for what in ("p50", "p99", "max")
    ),
    ("without a new primary", lambda run: sum(one["without_a_new_primary"] for one in run["failovers"])),
    ("two primaries", _overlaps),
)


def table(runs: Sequence[Run]) -> str:
    """One column a run."""
    return "\n".join(f"{name:<30}" + "".join(f"{figure(run)!s:>12}" for run in runs) for name, figure in ROWS)


def drawn(runs: Sequence[Run]) -> str:
    """Give the picture, SVG: four panels over the number of clusters, the last over the time of the largest run."""
    clusters = [float(run["clusters"]) for run in runs]
    panels = [
        _panel(
            "renewal, ms",
            clusters,
            {what: [run["steady"]["renewal_ms"].get(what, math.nan) for run in runs] for what in ("p50", "p99", "max")},
            logarithmic=True,
        ),
        _panel(
            "CPU, cores",
            clusters,
            {
                "etcd, 3 members": [sum(run["steady"]["etcd_cores"]) for run in runs],
                "generator": [run["steady"]["generator_cores"] for run in runs],
            },
            logarithmic=True,
        ),
        _panel(
            "all at once: a new primary after, s",
            clusters,
            {what: [_all_at_once(run, what) for run in runs] for what in ("p50", "p99", "max")},
            logarithmic=True,
        ),
        _over_time(max(runs, key=lambda run: run["clusters"])),
    ]
    placed = "".join(
        f'<g transform="translate({20 + place % 2 * (_WIDE + 100)},{20 + place // 2 * (_HIGH + 100)})">{panel}</g>'
        for place, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * (_WIDE + 100)} {2 * (_HIGH + 100) + 20}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>{placed}</svg>\n'
    )


def _over_time(run: Run) -> str:
    seen = [(second, row["in_use_bytes"]) for second, row in enumerate(run["by_second"]) if "in_use_bytes" in row]
    curve = [size / run["clusters"] / 1000 for _, size in seen]
    label = f"in use a cluster over time, KB ({run['clusters']} clusters, seconds)"
    return _panel(label, [float(second) for second, _ in seen], {"database": curve}, logarithmic=False)


def _panel(label: str, xs: Sequence[float], curves: dict[str, list[float]], *, logarithmic: bool) -> str:
    """Draw curves over xs; the y axis begins at 0."""
    finite = [y for ys in curves.values() for y in ys if math.isfinite(y)]
    if not xs or not finite:
        return f'<text y="20">{label}: nothing was measured</text>'
    most = _round_up(max(finite))
    scale = math.log10 if logarithmic else float
    first, last = scale(min(xs)), scale(max(xs))

    def x_of(x: float) -> float:
        return _LEFT + (_WIDE * (scale(x) - first) / (last - first) if last > first else _WIDE / 2)

    def y_of(y: float) -> float:
        return _TOP + _HIGH * (1 - y / most)

    parts = [f'<text x="{_LEFT}" y="14" font-weight="bold">{label}</text>']
    for tick in range(5):
        y = y_of(most * tick / 4)
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{_WIDE}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * tick / 4:g}</text>')
    parts += [
        f'<text x="{x_of(x):.1f}" y="{_TOP + _HIGH + 16}" text-anchor="middle">{x:g}</text>'
        for x in (xs if logarithmic else (min(xs), max(xs)))
    ]
    for place, (name, ys) in enumerate(curves.items()):
        colour = _COLOURS[place]
        points = [(x_of(x), y_of(y)) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points if logarithmic]
        parts.append(f'<text x="{_LEFT + place * 130}" y="32" fill="{colour}">{name}</text>')
    return "".join(parts)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)
