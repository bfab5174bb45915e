"""What became of what was meant for each second. A second is told when nothing in it can change any more. Pure.

Times are seconds of the loop's clock; `epoch_s` added to one gives CLOCK_REALTIME as it was at the beginning, so that
a clock that is set meanwhile moves no second.

    now ──────────────────────────────────────────────────────────────▼
    │ told │ told │ open: 1 │ nothing open, waits for its turn │ goes on │
    They are told in their order. What is open when its second is `deadline_s` old has failed, whatever comes of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from failoverd.drill.load import histogram
from failoverd.drill.load.answers import OUTCOMES
from failoverd.drill.model import Second, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.drill.load.answers import Outcome
    from failoverd.drill.model import Protocol, Stage

OVERDUE_S = 2.0  # an answer that takes longer is waited for, by somebody


@dataclass(slots=True)
class _Count:
    """One protocol's."""

    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    latency: dict[str, int] = field(default_factory=dict)
    beats_ok: int = 0
    beats_failed: int = 0
    open: int = 0
    beats_open: int = 0

    def tally(self) -> Tally:
        """What is told: what is still open has failed."""
        return Tally(
            ok=self.counts["ok"],
            failed=self.counts["failed"] + self.open,
            refused=self.counts["refused"],
            rejected=self.counts["rejected"],
            unknown=self.counts["unknown"],
            latency=self.latency,
            beats_ok=self.beats_ok,
            beats_failed=self.beats_failed + self.beats_open,
        )


@dataclass(slots=True)
class _Second:
    number: int  # CLOCK_REALTIME in s
    stage: Stage
    imap: _Count = field(default_factory=_Count)
    smtp: _Count = field(default_factory=_Count)
    late_s: float = 0.0
    sessions: int = 0
    users: int = 0
    told: bool = False

    def of(self, protocol: Protocol) -> _Count:
        return self.imap if protocol == "imap" else self.smtp

    def is_open(self) -> bool:
        return bool(self.imap.open or self.imap.beats_open or self.smtp.open or self.smtp.beats_open)


@dataclass(slots=True, eq=False)
class Operation:
    """Something that was meant for a moment. `beat`: a fresh login, else what a person does."""

    protocol: Protocol
    intended_s: float
    _second: _Second
    beat: bool = False
    _done: bool = False

    @property
    def over(self) -> bool:
        """It counts as something by now: it is not worth beginning."""
        return self._done or self._second.told

    def end(self, outcome: Outcome, now_s: float) -> None:
        """It is done. The first word counts, and none after its second was told."""
        if self.over:
            return
        self._done = True
        count = self._second.of(self.protocol)
        if self.beat:
            count.beats_open -= 1
            count.beats_ok += outcome == "ok"
            count.beats_failed += outcome != "ok"
            return
        count.open -= 1
        count.counts[outcome] += 1
        if outcome == "ok":
            histogram.add(count.latency, (now_s - self.intended_s) * 1000)


class Seconds:
    """All of them."""

    def __init__(self, epoch_s: float, deadline_s: float, now_s: float) -> None:
        self._epoch_s, self._deadline_s = epoch_s, deadline_s
        self._stage: Stage = "baseline"
        self._kept = deque([_Second(int(now_s + epoch_s), "baseline")])

    def begin(self, protocol: Protocol, intended_s: float, *, beat: bool = False) -> Operation:
        """Something is meant for this moment: now, or a little before."""
        second = self._at(intended_s)
        count = second.of(protocol)
        if beat:
            count.beats_open += 1
        else:
            count.open += 1
        return Operation(protocol, intended_s, second, beat)

    def late(self, by_s: float, now_s: float) -> None:
        """The generator itself did something later than it meant to."""
        second = self._at(now_s)
        second.late_s = max(second.late_s, by_s)

    def stage(self, stage: Stage, now_s: float) -> None:
        """From the next second on. A second with a part of the fault in it is the fault's, at both of its ends."""
        if stage == "fault":
            self._at(now_s).stage = stage
        else:
            self._at(now_s)
        self._stage = stage

    def tell(self, now_s: float, sessions: int, users: int) -> Iterator[Second]:
        """Return what cannot change any more; how many there are now is noted for the second that goes on."""
        now = self._at(now_s)
        now.sessions, now.users = sessions, users
        while len(self._kept) > 1:
            second = self._kept[0]
            if second.is_open() and second.number + 1 + self._deadline_s - self._epoch_s > now_s:
                return
            yield self._told(self._kept.popleft())

    def overdue(self, now_s: float) -> int:
        """How many operations were meant more than OVERDUE_S ago, and are still open."""
        until = int(now_s + self._epoch_s - OVERDUE_S)
        return sum(second.imap.open + second.smtp.open for second in self._kept if second.number < until)

    def rest(self) -> Iterator[Second]:
        """It is the end: all that is left, what is open having failed."""
        while self._kept:
            yield self._told(self._kept.popleft())

    def _at(self, at_s: float) -> _Second:
        number = int(at_s + self._epoch_s)
        while self._kept[-1].number < number:
            last = self._kept[-1]
            made = _Second(last.number + 1, self._stage, sessions=last.sessions, users=last.users)
            self._kept.append(made)
        # What was meant for a second that is told already, by a generator that is late itself: the oldest that is left.
        return self._kept[max(0, number - self._kept[0].number)]

    @staticmethod
    def _told(second: _Second) -> Second:
        second.told = True
        return Second(
            at_ms=second.number * 1000,
            stage=second.stage,
            sessions=second.sessions,
            users=second.users,
            imap=second.imap.tally(),
            smtp=second.smtp.tally(),
            late_ms=round(second.late_s * 1000, 3),
        )
