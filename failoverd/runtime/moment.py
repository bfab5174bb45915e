"""Moments in documents: ISO 8601, in UTC, to the second."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(wall_ms: int) -> str:
    """`2026-03-01T03:00:00Z` of milliseconds since 1970."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
