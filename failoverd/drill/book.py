"""The state of a drill on disk: replaced as a whole after each step, durable before the next one begins.

/var/lib/failoverd/drill/current    the id, until nothing of the drill is left on any node
/var/lib/failoverd/drill/ID/        state.json, and what the load writes
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from failoverd.drill import model
from failoverd.drill.model import Drill, Note, PhaseName, PhaseResult
from failoverd.drill_files import CURRENT, DIRECTORY, STATE
from failoverd.durable import sync_directory, write_durably

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.drill.model import Asked, Cast, Fault, Outcome


def utc_now() -> str:
    """Return the moment as documents have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Book:
    """One drill's. Blocks for a sync; raises OSError."""

    def __init__(self, state: Path, drill: Drill, tell: Callable[[str], None]) -> None:
        self._root = state / DIRECTORY
        self.drill = drill
        self.place = self._root / drill.asked.id
        self._tell = tell
        self._began = time.monotonic()
        self._strict = True
        self._behind = False  # the disk has not taken the last change

    def leniently(self) -> None:
        """From now on a disk that takes nothing is told and ends nothing: what is taken back counts for more."""
        self._strict = False

    @classmethod
    def opened(cls, state: Path, asked: Asked, cluster: str, tell: Callable[[str], None]) -> Book:
        """Begin one. From now on somebody who comes later knows that there is something to clear up."""
        book = cls(state, Drill(asked=asked, cluster=cluster, began=utc_now()), tell)
        book.place.mkdir(parents=True, mode=0o750)
        book.write()
        write_durably(book._root / CURRENT, asked.id + "\n")
        return book

    @classmethod
    def unfinished(cls, state: Path, tell: Callable[[str], None]) -> Book | None:
        """Return the one that this node has begun and not cleared up, None where there is none. Raises ValueError."""
        try:
            drill = model.load(Drill, (state / DIRECTORY / cls.current(state) / STATE).read_bytes())
        except FileNotFoundError:
            return None
        book = cls(state, drill, tell)
        # Its clock went on while nobody wrote: by the wall clock, which is good enough for what is left to note.
        began = datetime.fromisoformat(drill.began)
        if began.tzinfo is None:
            raise ValueError(f"{drill.began!r} is no moment")
        gone_s = (datetime.now(UTC) - began).total_seconds()
        book._began = time.monotonic() - max(gone_s, 0.0)
        return book

    @staticmethod
    def current(state: Path) -> str:
        """Return the id of that one. Raises FileNotFoundError where there is none."""
        return (state / DIRECTORY / CURRENT).read_text().strip()

    @staticmethod
    def forget(state: Path) -> None:
        """There is none any more, durably."""
        with suppress(FileNotFoundError):
            (state / DIRECTORY / CURRENT).unlink()
        sync_directory(state / DIRECTORY)

    def now_ms(self) -> int:
        """Milliseconds since the drill began."""
        return round((time.monotonic() - self._began) * 1000)

    def write(self) -> None:
        """Put it on disk."""
        try:
            write_durably(self.place / STATE, model.dump(self.drill).decode() + "\n")
        except OSError as error:
            if self._strict:
                raise
            if not self._behind:
                self._tell(f"{self.place / STATE}: {error.strerror}; everything is taken back all the same")
            self._behind = True
        else:
            self._behind = False

    def change(self, **changes: object) -> None:
        """Change it, on disk as well."""
        self.drill = replace(self.drill, **changes)  # type: ignore[arg-type] # the callers' keywords are its fields
        self.write()

    def note(self, text: str, code: str = "") -> None:
        """Note what happened, for the report and for who looks on."""
        self._tell(text)
        self.change(notes=(*self.drill.notes, Note(at_ms=self.now_ms(), text=text, code=code)))

    def begin(self, name: PhaseName) -> None:
        """A phase begins."""
        self._tell(f"{name} begins")
        self.change(phases=(*self.drill.phases, PhaseResult(name=name, began_ms=self.now_ms())))

    def found(self, **facts: str | float | bool) -> None:
        """Add to the facts of the phase that is under way."""
        *before, last = self.drill.phases
        self.change(phases=(*before, replace(last, facts={**last.facts, **facts})))

    def end(self, outcome: Outcome, code: str = "", reason: str = "") -> None:
        """The phase that is under way ends; none where none is."""
        if not self.drill.phases or self.drill.phases[-1].outcome != "under-way":
            return
        *before, last = self.drill.phases
        ended = replace(last, ended_ms=self.now_ms(), outcome=outcome, code=code, reason=reason)
        self.change(phases=(*before, ended))

    @property
    def injected(self) -> bool:
        """Whether anything of the cluster was, or was about to be, changed."""
        return any("injected_ms" in phase.facts for phase in self.drill.phases)

    def cast(self, cast: Cast) -> None:
        """Who is who."""
        self.change(cast=cast)

    def fault(self, fault: Fault | None) -> None:
        """What is about to be brought about: before it is."""
        self.change(fault=fault)

    def conclude(self, outcome: Outcome, code: str = "", reason: str = "") -> None:
        """How all of it ended. The first word counts."""
        if self.drill.outcome == "under-way":
            self.change(outcome=outcome, code=code, reason=reason, ended=utc_now())

    def close(self) -> None:
        """Nothing of it is left on any node. Where the disk does not take that, whoever comes next says it again."""
        self.change(clean=True)
        if not self._behind:
            self.forget(self._root.parent)
