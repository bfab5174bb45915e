"""What servers took responsibility for: ledger.jsonl, from which it is later looked for on every node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from failoverd.drill import model
from failoverd.drill.model import Acknowledged
from failoverd.drill_files import LEDGER

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.drill.load.messages import Message

How = Literal["append", "submit"]


class Ledger:
    """One run's. Raises OSError: a drill that cannot note what was promised to it proves nothing."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / LEDGER).open("ab")
        self.counts: dict[How, int] = {"append": 0, "submit": 0}

    def acknowledged(self, message: Message, account: str, mailbox: str, how: How, at_ms: int) -> None:
        """Note one, once the server has said so and never before."""
        line = Acknowledged(
            message_id=message.id, account=account, mailbox=mailbox, how=how, at_ms=at_ms, size=len(message.data)
        )
        self._file.write(model.dump(line) + b"\n")
        self.counts[how] += 1

    def flush(self) -> None:
        """Hand it to the kernel: it is there when this process is not."""
        self._file.flush()

    def close(self) -> None:
        """Make it durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
