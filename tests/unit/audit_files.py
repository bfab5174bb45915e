"""An audit of several files with its keeper, whose days pass when the test says so."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.audit import layout
from failoverd.audit.file import AuditFile
from failoverd.audit.keeping import HOLD_MS, Keeper
from failoverd.audit.reserve import Reserve
from failoverd.audit.verify import Found, Verified, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.audit.chain import Head, Written

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MEMORY = Path("/dev/shm")  # noqa: S108 - a thousand audits whose every append is synced


class Stage:
    """One node's audit. `days` and `boot_ms` are its clocks; `look` is what the keeper's thread does."""

    def __init__(self, directory: Path, *, rotate_size: int = 1500, retention_days: int = 1000, days: int = 0) -> None:
        self.directory = directory
        self.days = days
        self.boot_ms = 1000
        self.told: list[Written] = []
        self._rotate_size = rotate_size
        self._retention = timedelta(days=retention_days)
        self.begin()

    def begin(self) -> None:
        """As a daemon that starts."""
        reserve = Reserve(self.directory / layout.RESERVE, 0)
        self.keeper = Keeper(
            self.directory,
            reserve=reserve,
            retention=self._retention,
            clock=self,
            note=lambda line: self.audit.note(line),  # noqa: PLW0108 - it is made below
            wall=self.now,
        )
        self.audit = AuditFile(
            self.directory / layout.NAME,
            "mail1",
            self,
            self.now,
            self._written,
            cluster="mail",
            rotate_size=self._rotate_size,
            reserve=reserve,
        )

    def again(self) -> None:
        """As a daemon that is started again."""
        self.audit.close()
        self.begin()

    def _written(self, written: list[Written]) -> None:
        self.told += written
        self.keeper.told(written)

    def now(self) -> datetime:
        """The wall clock."""
        return NOON + timedelta(days=self.days)

    def now_ms(self) -> int:
        """The time since boot."""
        self.boot_ms += 1
        return self.boot_ms

    def append(self, *texts: str) -> None:
        """One append, a record a text."""
        self.audit.append([{"term": 7, "kind": "step", "rule": "r", "text": text} for text in texts])

    def day(self, *texts: str) -> None:
        """A day passes, with an append and what the keeper does."""
        self.days += 1
        self.append(*(texts or ("one", "two")))
        self.look()

    def look(self) -> None:
        """The keeper looks; what was too old at its last look is too old for long enough."""
        self.boot_ms += HOLD_MS
        self.keeper.look()

    def names(self) -> list[str]:
        """The files that hold records."""
        return [path.name for path in layout.paths(self.directory)]

    def found(self, *heads: Head) -> list[Found]:
        """What verify says."""
        return found_in(self.directory, *heads)

    def broken(self, *heads: Head) -> list[Found]:
        """What of it is broken."""
        return [each for each in self.found(*heads) if each.broken]


def found_in(directory: Path, *heads: Head) -> list[Found]:
    """What verify says of an audit that was written by a Stage."""
    return verify(directory, Verified(), NOON + timedelta(days=2000), cluster="mail", known_heads=heads)


@contextmanager
def in_memory() -> Iterator[Path]:
    """A directory in memory, where there is one."""
    place = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield place
    finally:
        shutil.rmtree(place)
