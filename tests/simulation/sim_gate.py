"""The kernel's part of the lease, and the services behind it: what goes on while a host's processes stand still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Gate:
    """Gate and virtual IP in one, bounded by an absolute moment of the node's own clock (`now_ms`)."""

    now_ms: Callable[[], int]
    permanent: bool = False  # the administrator's address, before failoverd was ever asked
    until_ms: int = 0
    term: int = 0

    @property
    def is_open(self) -> bool:
        """Whether clients get through."""
        return self.permanent or self.now_ms() < self.until_ms

    def open(self, term: int, until_ms: int) -> bool:
        """Open, or move the bound. Late means closed."""
        self.permanent, self.term, self.until_ms = False, term, until_ms
        return self.is_open

    def close(self) -> None:
        """Withdraw all."""
        self.permanent, self.until_ms = False, 0


@dataclass
class Service:
    """A mail service as probes and systemd see it."""

    unit: str
    up: bool = True
    can_start: bool = True
    broken_for_clients: bool = False  # its unit runs, and no client can use it
