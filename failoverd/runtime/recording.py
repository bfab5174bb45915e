"""One node's audit with what belongs to it: the past that it tells of, its lines for others, its keeper, its reserve.

outbox ── append ──> AuditFile ── told: on disk ──> Past, Keeper, Outgoing
                         <── note: with the next append ── Keeper (a thread of its own)
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from failoverd.audit import layout
from failoverd.audit.file import AuditFile
from failoverd.audit.keeping import Keeper
from failoverd.audit.outgoing import Outgoing
from failoverd.audit.reserve import Reserve
from failoverd.runtime.history import Past
from failoverd.runtime.host import Refused

if TYPE_CHECKING:
    from failoverd.audit.chain import Written
    from failoverd.config import Config
    from failoverd.ports import Clock

MEGABYTE = 1 << 20
STOP_WITHIN_S = 1.0


class Recording:
    """What records, as one configuration wants it."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open the audit and repair its end. Blocking; raises OSError."""
        wanted = config.audit
        self.past = Past(wanted.directory)
        self.lines = Outgoing(wanted.directory)
        self.reserve = Reserve(wanted.directory / layout.RESERVE, wanted.reserve_megabytes * MEGABYTE)
        self._keeper = Keeper(
            wanted.directory,
            reserve=self.reserve,
            retention=timedelta(days=wanted.retention_days),
            clock=clock,
            note=lambda line: self.audit.note(line),  # noqa: PLW0108 - it is made below
        )
        self.audit = AuditFile(
            wanted.directory / layout.NAME,
            config.this.name,
            clock,
            told=self._told,
            cluster=config.cluster,
            rotate_size=wanted.rotate_megabytes * MEGABYTE,
            reserve=self.reserve,
        )
        # What it has up to now is read later, what comes is told.
        self.past.upto = self.audit.sequence
        self.lines.begin(self.audit.head)

    def start(self) -> None:
        """Begin to keep the files in order."""
        self._keeper.start()

    def stop(self) -> None:
        """End that. Blocking, a second at most."""
        self._keeper.stop(STOP_WITHIN_S)

    def refused(self) -> tuple[Refused, ...]:
        """What is to be told of it. Asks no disk."""
        short = self.reserve.short
        if not short:
            return ()
        have = f"{short} of {self.reserve.size} bytes of its reserve"
        return (Refused("AUDIT_DISK_FULL", f"the audit's disk is full: {have} are given up or could not be had"),)

    def _told(self, written: list[Written]) -> None:
        self.past.noted([each.record for each in written])
        self._keeper.told(written)
        self.lines.noted(written)
