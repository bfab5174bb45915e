"""How far a rebuild is: a line of JSON on standard output, and the newest one where the daemon looks.

    {"stage": "receive", "bytes": …, "of": …, "rate": …, "left_s": …}      `of` is the donor's estimate

/run/failoverd/rebuild.json is for people and for the daemon's status; what a rebuild must know itself is its journal's.
Beside it rebuild.lock is held for as long as the process lives: a file says what was, a lock what is. See
rebuild_files.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from typing import TYPE_CHECKING

from failoverd.rebuild import RebuildError
from failoverd.rebuild_files import FILE, LOCK

if TYPE_CHECKING:
    from pathlib import Path


class Progress:
    """Tells it. `request` is whose rebuild it is: the daemon's, by its name; "" for a person's own."""

    def __init__(self, runtime: Path, request: str = "") -> None:
        self._runtime = runtime
        self.request = request
        self._lock: int | None = None
        self.touched = False  # the node's data have been: only going on helps

    def take(self) -> None:
        """Be seen to run until this process ends. Raises RebuildError, OSError."""
        self._runtime.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._lock = os.open(self._runtime / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RebuildError("REBUILD_RUNNING", f"{self._runtime / LOCK} is held") from None

    def say(self, stage: str, **facts: object) -> None:
        """Tell how far it is. Raises OSError."""
        if self._lock is not None:  # otherwise refused before it began: the file is another run's
            temporary = self._runtime / f".{FILE}.new"
            common = {"request": self.request, "touched": self.touched}
            temporary.write_text(json.dumps({"stage": stage, **facts, **common}) + "\n")
            temporary.replace(self._runtime / FILE)
        sys.stdout.write(json.dumps({"stage": stage, **facts}) + "\n")  # last: whoever read it may end this process
        sys.stdout.flush()
