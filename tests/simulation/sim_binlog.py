"""What a binary log is made of, and the connection over which a replica gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim_database import Database


@dataclass(frozen=True, slots=True)
class Transaction:
    """`heartbeat` is (term, beat) where it is one of the controller's own, else None.

    `made` is what no server knows: two with the same id are different transactions, after one was lost in a crash.
    """

    server: int
    number: int
    made: int
    heartbeat: tuple[int, int] | None = None

    @property
    def gtid(self) -> tuple[int, int]:
        """All that servers compare."""
        return self.server, self.number


@dataclass(eq=False, slots=True)
class Stream:
    """One replica's connection to its source."""

    source: Database
    life: int  # of the source: a connection does not outlive its server
    heard_at: int
