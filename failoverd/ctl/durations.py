"""Durations as people say them."""

from __future__ import annotations


def duration(ms: int) -> str:
    """`ms` as a person says it: 12 ms, 1.3 s, 4 min, 3 h."""
    if ms < 100:
        return f"{ms} ms"
    if ms < 10_000:
        return f"{ms / 1000:.1f} s"
    if ms < 120_000:
        return f"{ms // 1000} s"
    if ms < 7_200_000:
        return f"{ms // 60_000} min"
    return f"{ms // 3_600_000} h"
