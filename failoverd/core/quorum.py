"""Counting observers. The majority is of all that are configured, never of those that answered."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Vote(Enum):
    """What one observer says of a claim. UNKNOWN: silent, stale, or not sure yet."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Tally(Enum):
    """What they say together."""

    WON = "won"
    LOST = "lost"
    PENDING = "pending"


def majority(configured: int) -> int:
    """How many of `configured` observers are more than half."""
    return configured // 2 + 1


def tally(votes: Iterable[Vote], configured: int) -> Tally:
    """WON when a majority of all configured observers says yes, LOST when so many said no that it cannot be won."""
    votes = tuple(votes)
    needed = majority(configured)
    if votes.count(Vote.YES) >= needed:
        return Tally.WON
    if votes.count(Vote.NO) > configured - needed:
        return Tally.LOST
    return Tally.PENDING
