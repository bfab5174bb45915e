"""What an agent runs for a drill: each job is a process of its own, which can be ended and takes nothing with it.

    failoverd drill-job KIND   stdin   the arguments, one line of JSON; then whatever it is told later, a line each
                               stdout  {"progress": {…}} …, and as the last line {"done": {…}} or {"failed": {…}}

A job that ends without its last word has failed, and so has one that says more than any is meant to. Its lines are kept
for whoever asks, whenever. When it is gone, so is all that it has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from failoverd.drill.ourselves import Ourselves

KINDS = ("backup", "tables", "mailboxes", "counters", "audit", "clean")
LINE_BYTES = 64 << 20  # the sums of every table and mailbox of a large site
MOST_BYTES = 2 * LINE_BYTES  # of all its lines: they are kept in memory, beside the mail
TERM_S = 10.0
LAST_WORDS_S = 5.0  # for what a job has said before it ended; what it has left running may hold its pipe open for ever
GROUP_S = 1.0
PULSE_S = 1.0
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
CREDENTIALS = "CREDENTIALS_DIRECTORY"  # of this unit, where a job finds the configuration's secrets as well


class Job:
    """One process and what it has said."""

    def __init__(self, drill: str, kind: str, term_s: float = TERM_S) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.drill, self.kind = drill, kind
        self._term_s = term_s
        self.lines: list[bytes] = []
        self.ended = False
        self._bytes = 0
        self._more = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, ourselves: Ourselves, arguments: dict[str, Any]) -> None:
        """Start it. Raises OSError."""
        # A pair of sockets and no pipes of asyncio's: its process has not ended for it until each pipe is closed, and
        # whatever the job has started has them open as well.
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *ourselves.command("drill-job", self.kind),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                env=ENVIRONMENT | {name: os.environ[name] for name in (CREDENTIALS,) if name in os.environ},
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_BYTES)
        self._task = asyncio.ensure_future(self._follow(self._process, reader, self._writer))
        await self.tell(arguments)

    async def tell(self, message: dict[str, Any]) -> None:
        """Give it one more line. One that has ended hears nothing."""
        assert self._writer is not None  # noqa: S101 - start comes first
        with contextlib.suppress(ConnectionError):
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()

    async def _follow(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Until it is gone, with all that it has started."""
        listening = asyncio.ensure_future(self._listen(reader))
        code = await process.wait()
        await _end_group(process.pid)
        await asyncio.wait({listening}, timeout=LAST_WORDS_S)
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            why = await listening
            if why:
                self._fail(why)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        if not self.lines or not self.lines[-1].startswith((b'{"done"', b'{"failed"')):
            self._fail(f"ended without a word: {f'signal {-code}' if code < 0 else f'exit code {code}'}")
        self.ended = True
        self._more.set()

    async def _listen(self, reader: asyncio.StreamReader) -> str:
        """Keep what it says until it says no more; return why it was ended for it, "" where it was not."""
        try:
            while line := await reader.readline():
                self._bytes += len(line)
                if self._bytes > MOST_BYTES:
                    break
                if line.strip():
                    self._say(line.strip())
                await asyncio.sleep(0)  # a flood of lines is read without a pause otherwise, and nobody else is served
            else:
                return ""
        except ConnectionError:  # it has ended with something unread
            return ""
        except ValueError:  # a line that is longer than LINE_BYTES
            pass
        self._kill()
        return f"said more than {MOST_BYTES >> 20} MB: it was ended"

    def _fail(self, how: str) -> None:
        self._say(json.dumps({"failed": {"code": "", "reason": f"{self.kind} {how}"}}).encode())

    def _say(self, line: bytes) -> None:
        self.lines.append(line)
        self._more.set()
        self._more = asyncio.Event()

    async def events(self) -> AsyncIterator[bytes]:
        """Each line from the first on, as they come; an empty one a second meanwhile."""
        told = 0
        while True:
            more = self._more
            while told < len(self.lines):
                yield self.lines[told]
                told += 1
            if self.ended:
                return
            try:
                async with asyncio.timeout(PULSE_S):
                    await more.wait()
            except TimeoutError:
                yield b""

    async def end(self) -> None:
        """End it and all that it has started. Idempotent."""
        if self._process is None or self._task is None:
            return
        if not self._task.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)  # its own children are its own to end
        try:
            async with asyncio.timeout(self._term_s):
                await asyncio.shield(self._task)
        except TimeoutError:
            self._kill()
            await self._task

    def _kill(self) -> None:
        """Have it gone, its group, and what it has put into groups of their own (rebuild/programs.py)."""
        assert self._process is not None  # noqa: S101 - called once it runs
        if self._process.returncode is not None:
            return
        below = list(descendants(self._process.pid))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def _end_group(pid: int) -> None:
    """Kill what is left of a process group whose leader has ended, and wait until it is gone.

    The number of a group that still has members is given to nobody else, and one that has none is not found. What hangs
    in the kernel goes when it comes back from there: it is waited for no longer than GROUP_S.
    """
    with contextlib.suppress(ProcessLookupError, TimeoutError):
        async with asyncio.timeout(GROUP_S):
            while True:
                os.killpg(pid, signal.SIGKILL)
                await asyncio.sleep(0.01)  # there is nothing to be woken by: they are nobody's children any more


def descendants(pid: int) -> Iterator[int]:
    """Return all processes that one has started, and those that they have."""
    for children in Path("/proc", str(pid), "task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:  # a thread, or all of it, that has ended meanwhile
            continue
        for child in map(int, found):
            yield child
            yield from descendants(child)
