"""Latencies in log-spaced buckets: each at most 4.5 % wider than the one before, from half a millisecond up.

A bucket goes by its upper bound, as text, so that it is a JSON object's key; `report.measured.percentile` reads it.
"""

from __future__ import annotations

from bisect import bisect_left

GROWTH = 1.045  # a percentile is told as its bucket's upper bound: never too low, and less than 5 % too high
LEAST_MS = 0.5
MOST_MS = 120_000.0


def _bounds() -> list[float]:
    bounds = [LEAST_MS]
    while bounds[-1] < MOST_MS:
        bounds.append(float(f"{bounds[-1] * GROWTH:.4g}"))
    return bounds


BOUNDS = _bounds()
NAMES = [f"{bound:g}" for bound in BOUNDS]


def bucket(latency_ms: float) -> str:
    """Return the upper bound of the bucket that a latency lies in; what is beyond the last one lies in that."""
    return NAMES[min(bisect_left(BOUNDS, latency_ms), len(NAMES) - 1)]


def add(histogram: dict[str, int], latency_ms: float) -> None:
    """Count one."""
    name = bucket(latency_ms)
    histogram[name] = histogram.get(name, 0) + 1
