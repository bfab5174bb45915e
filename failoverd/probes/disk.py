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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from failoverd.core.model import Health, Reading
from failoverd.probes.aside import Aside, NoLookError
from failoverd.probes.deadline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.ports import Target

WRITER = Path(__file__).with_name("disk_writer.py")
CODES_OF = {
    errno.ENOSPC: "DISK_FULL",
    errno.EDQUOT: "DISK_FULL",
    errno.EROFS: "DISK_READ_ONLY",
}  # all others: DISK_IO

_NO_WRITER = ("PROBE_EXHAUSTED", "nobody was there to write")
# Children let go that had not ended yet: each is looked after once more, so that none stays a zombie.
_LEFT: list[subprocess.Popen[bytes]] = []


class Writer(Protocol):
    """Whoever writes, wherever it runs: asked at one descriptor, heard at the other (they may be the same)."""

    @property
    def input(self) -> int:
        """Where it is asked."""
        ...

    @property
    def output(self) -> int:
        """Where it answers."""
        ...

    def end(self) -> None:
        """Close both: it ends when it can, and nobody waits for it."""
        ...


def lock_of(path: str, locks: Path) -> Path:
    """The file in memory by which there is one writer to a path."""
    return locks / f"disk-{hashlib.sha256(path.encode()).hexdigest()[:12]}.lock"


def writer(path: str, lock: Path) -> list[str]:
    """The command that is a writer."""
    return [sys.executable, "-I", "-S", str(WRITER), path, str(lock)]


class Child:
    """A writer that is this process's child."""

    def __init__(self, command: list[str]) -> None:
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603 - our own program
        if self._child.stdin is None or self._child.stdout is None:
            raise AssertionError("both are pipes")
        self._pipes = (self._child.stdin, self._child.stdout)
        self.input, self.output = (pipe.fileno() for pipe in self._pipes)

    def end(self) -> None:
        """Let it end."""
        for pipe in self._pipes:
            pipe.close()
        _LEFT.append(self._child)
        _LEFT[:] = [left for left in _LEFT if left.poll() is None]


class DiskProbe:
    """Writes to one path. `locks` is a directory in memory, the same for every daemon of this boot.

    `start` gives a writer of somebody else's, blocks and raises OSError or NoLookError: without it, a child of this
    process. That somebody else is late says nothing of the disk.
    """

    def __init__(self, path: str, locks: Path, start: Callable[[str], Writer] | None = None) -> None:
        self._path = path
        self._aside = Aside(f"start writer of {path}")
        own = partial(Child, writer(path, lock_of(path, locks)))
        self._start: Callable[[], Writer] = own if start is None else partial(start, path)
        self._lent = start is not None
        self._child: Writer | None = None
        self._answer: asyncio.Future[str] | None = None  # of the write that goes on

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        hung = Reading(Health.FAILED, "DISK_HUNG", f"a write to {self._path} of an earlier reading has not ended")
        if self._answer is not None and not self._answer.done():
            return hung
        if self._aside.busy:
            return Reading(Health.UNKNOWN, *_NO_WRITER) if self._lent else hung
        try:
            answer = await self._write()
        except NoLookError as error:
            return error.reading
        except OSError as error:
            self._forget()
            return Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", f"the writer of {self._path}: {error.strerror or error}")
        return hung if answer == "busy" else reading_of(self._path, answer)

    async def close(self) -> None:
        """Let the child end, which it does when it can. Nobody waits for it."""
        self._forget()

    async def _write(self) -> str:
        loop, attempt = asyncio.get_running_loop(), current()
        late = f"a write to {self._path} did not end"
        if self._child is None:
            if self._lent:
                attempt.stage(*_NO_WRITER, Health.UNKNOWN)
            else:
                attempt.stage("DISK_HUNG", late)
            self._child = await self._aside.run(self._start)
            loop.add_reader(self._child.output, self._answered, self._child)
        attempt.stage("DISK_HUNG", late)
        self._answer = loop.create_future()
        os.write(self._child.input, b".")
        return await asyncio.shield(self._answer)  # it stays asked when this reading is given up

    def _answered(self, child: Writer) -> None:
        """An answer is there, or the child has ended. Answers are shorter than what a pipe takes in one piece."""
        try:
            line = os.read(child.output, 100).decode().strip()
        except ConnectionError:
            line = ""
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
        if child is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            asyncio.get_running_loop().remove_reader(child.output)
        child.end()


def reading_of(path: str, answer: str) -> Reading:
    """What the writer's word means."""
    if answer == "ok":
        return Reading(Health.OK)
    word, _, number = answer.partition(" ")
    if word != "error" or not number.isascii() or not number.isdecimal() or len(number) > 4:
        return Reading(Health.UNKNOWN, "PROBE_BUG", f"the writer of {path} says {answer[:80]!r}")
    return Reading(Health.FAILED, CODES_OF.get(int(number), "DISK_IO"), f"{path}: {os.strerror(int(number))}")
