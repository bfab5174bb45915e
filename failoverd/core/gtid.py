"""Sets of global transaction ids, one algebra for MariaDB and MySQL.

A set maps a *source* to closed intervals of sequence numbers. The dialects write their own notation into it:

    MariaDB holdings  `0-1-500,0-2-510`  ->  {"0-1": 1..500, "0-2": 1..510}     (@@gtid_binlog_state)
    MariaDB received  `0-2-510`          ->  {"0": 1..510}                      (Gtid_IO_Pos: a domain is one stream)
    MySQL             `uuid:1-5:7`       ->  {"uuid": 1..5, 7..7}

Holdings answer "does it hold something that another lacks?", received positions answer "who is further?".
"""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[int, int]


def _merge(intervals: list[Interval]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if low > high or low < 1:
            raise ValueError(f"interval {low}-{high}: the first number must be at least 1 and not above the last")
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _subtract(left: tuple[Interval, ...], right: tuple[Interval, ...]) -> tuple[Interval, ...]:
    rest: list[Interval] = []
    for low, high in left:
        start = low
        for cut_low, cut_high in right:
            if cut_high < start or cut_low > high:
                continue
            if cut_low > start:
                rest.append((start, cut_low - 1))
            start = max(start, cut_high + 1)
        if start <= high:
            rest.append((start, high))
    return tuple(rest)


@dataclass(frozen=True, slots=True)
class GtidSet:
    """An immutable set of transaction ids; `parts` is sorted by source, its intervals merged and ascending."""

    parts: tuple[tuple[str, tuple[Interval, ...]], ...] = ()

    @classmethod
    def of(cls, intervals: dict[str, list[Interval]]) -> GtidSet:
        """Build from {source: [(first, last), …]}; raises ValueError on an interval that is none."""
        return cls(tuple((source, _merge(intervals[source])) for source in sorted(intervals) if intervals[source]))

    @classmethod
    def upto(cls, last: dict[str, int]) -> GtidSet:
        """Build from {source: last sequence number}: everything from 1 to it."""
        return cls.of({source: [(1, number)] for source, number in last.items() if number > 0})

    def minus(self, other: GtidSet) -> GtidSet:
        """What this set holds and `other` does not."""
        theirs = dict(other.parts)
        rest = ((source, _subtract(mine, theirs.get(source, ()))) for source, mine in self.parts)
        return GtidSet(tuple((source, intervals) for source, intervals in rest if intervals))

    def union(self, other: GtidSet) -> GtidSet:
        """What either holds."""
        both: dict[str, list[Interval]] = {source: list(intervals) for source, intervals in self.parts}
        for source, intervals in other.parts:
            both.setdefault(source, []).extend(intervals)
        return GtidSet.of(both)

    def covers(self, other: GtidSet) -> bool:
        """Whether `other` holds nothing that this set lacks."""
        return not other.minus(self).parts

    @property
    def count(self) -> int:
        """How many transactions."""
        return sum(high - low + 1 for _, intervals in self.parts for low, high in intervals)

    def __str__(self) -> str:
        return ",".join(
            f"{source}:" + ":".join(str(low) if low == high else f"{low}-{high}" for low, high in intervals)
            for source, intervals in self.parts
        )
