"""What servers took responsibility for: ledger.jsonl, from which it is later looked for on every node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from failoverd.drill import DrillError, model
from failoverd.drill.model import Acknowledged
from failoverd.drill_files import LEDGER

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.drill.load.messages import Message

How = Literal["append", "submit"]


class Ledger:
    """One run's. Each line is handed to the kernel at once: it is there when this process is not.

    Raises DrillError, and no OSError, which is what servers' troubles are: a drill that cannot note what was promised
    to it proves nothing.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LEDGER
        try:
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise self._broken(error) from None
        self.counts: dict[How, int] = {"append": 0, "submit": 0}
        self.unknown: dict[How, int] = {"append": 0, "submit": 0}

    def acknowledged(self, message: Message, account: str, mailbox: str, how: How, at_ms: int) -> None:
        """Note one, once the server has said so and never before."""
        line = Acknowledged(
            message_id=message.id, account=account, mailbox=mailbox, how=how, at_ms=at_ms, size=len(message.data)
        )
        rest = model.dump(line) + b"\n"
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._broken(error) from None
        self.counts[how] += 1

    def in_doubt(self, how: How) -> None:
        """Count one that was sent and never answered: nobody has promised it, and it is no line."""
        self.unknown[how] += 1

    def close(self) -> None:
        """Make it durable."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise self._broken(error) from None

    def _broken(self, error: OSError) -> DrillError:
        return DrillError("DRILL_LOAD_FAILED", f"{self._path}: {error.strerror}")
