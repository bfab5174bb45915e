"""Whether a file system takes a write: a small file, written and synced, in a process of its own.

A disk that hangs lets reads go on from memory, and takes whoever writes into a state that not even SIGKILL ends. So the
one who writes is a child for each path, started once and asked over a pipe; the deadline is judged here. One child a
path and not one with a thread each: a hung thread would keep its process, and with it the others', from ever ending.
While a child hangs, no second one is started, not even by the daemon that is started next (see `disk_writer`).

    read ── "." ──> disk_writer PATH ──> PATH/.failoverd-probe
         <── ok | error 28 | busy ──┘          a dot-file: no database for MariaDB, no mailbox for Dovecot
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.core.model import Health, Reading
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from failoverd.ports import Target

WRITER = Path(__file__).with_name("disk_writer.py")
CODES_OF = {
    errno.ENOSPC: "DISK_FULL",
    errno.EDQUOT: "DISK_FULL",
    errno.EROFS: "DISK_READ_ONLY",
}  # all others: DISK_IO

# Children let go that had not ended yet: each is looked after once more, so that none stays a zombie.
_LEFT: list[subprocess.Popen[bytes]] = []


class DiskProbe:
    """Writes to one path. `locks` is a directory in memory, the same for every daemon of this boot."""

    def __init__(self, path: str, locks: Path) -> None:
        self._path = path
        self._lock = locks / f"disk-{hashlib.sha256(path.encode()).hexdigest()[:12]}.lock"
        self._aside = Aside(f"start writer of {path}")
        self._child: subprocess.Popen[bytes] | None = None
        self._answer: asyncio.Future[str] | None = None  # of the write that goes on

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        hung = Reading(Health.FAILED, "DISK_HUNG", f"a write to {self._path} of an earlier reading has not ended")
        if self._aside.busy or (self._answer is not None and not self._answer.done()):
            return hung
        current().stage("DISK_HUNG", f"a write to {self._path} did not end")
        try:
            answer = await self._write()
        except ThreadRefusedError as error:
            return Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", f"this node: {error}")
        except OSError as error:
            self._forget()
            return Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", f"the writer of {self._path}: {error.strerror or error}")
        return hung if answer == "busy" else reading_of(self._path, answer)

    async def close(self) -> None:
        """Let the child end, which it does when it can. Nobody waits for it."""
        self._forget()

    async def _write(self) -> str:
        loop = asyncio.get_running_loop()
        if self._child is None:
            self._child = await self._aside.run(self._start)
            loop.add_reader(self._output, self._answered)
        self._answer = loop.create_future()
        os.write(self._input, b".")
        return await asyncio.shield(self._answer)  # it stays asked when this reading is given up

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", str(WRITER), self._path, str(self._lock)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603 - our own program

    @property
    def _input(self) -> int:
        if self._child is None or self._child.stdin is None:
            raise AssertionError("asked before it was started")
        return self._child.stdin.fileno()

    @property
    def _output(self) -> int:
        if self._child is None or self._child.stdout is None:
            raise AssertionError("asked before it was started")
        return self._child.stdout.fileno()

    def _answered(self) -> None:
        """An answer is there, or the child has ended. Answers are shorter than what a pipe takes in one piece."""
        line = os.read(self._output, 100).decode().strip()
        answer = self._answer
        if not line:
            self._forget()
        if answer is not None and not answer.done():
            if line:
                answer.set_result(line)
            else:
                answer.set_exception(OSError(errno.ECHILD, "the writer has ended"))
                answer.exception()  # looked at: nobody may wait for it any more

    def _forget(self) -> None:
        child, self._child, self._answer = self._child, None, None
        if child is None or child.stdin is None or child.stdout is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            asyncio.get_running_loop().remove_reader(child.stdout.fileno())
        child.stdin.close()
        child.stdout.close()
        _LEFT.append(child)
        _LEFT[:] = [left for left in _LEFT if left.poll() is None]


def reading_of(path: str, answer: str) -> Reading:
    """What the writer's word means."""
    if answer == "ok":
        return Reading(Health.OK)
    word, _, number = answer.partition(" ")
    if word != "error" or not number.isascii() or not number.isdecimal() or len(number) > 4:
        return Reading(Health.UNKNOWN, "PROBE_BUG", f"the writer of {path} says {answer[:80]!r}")
    return Reading(Health.FAILED, CODES_OF.get(int(number), "DISK_IO"), f"{path}: {os.strerror(int(number))}")
