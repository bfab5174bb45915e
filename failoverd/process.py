"""One run of a program that may do anything: it ends in time, with all that it started in its process group.

A thread a run, because starting a program blocks: on a hung disk `execve` does not come back. For the same reason it is
started with fork, not with vfork, which Python would take by itself: vfork stops the whole interpreter (whose lock is
held) until the program has been loaded, and the lease would not be renewed meanwhile.

    text ──stdin──> program ──stdout and stderr──> the last OUTPUT_BYTES
       deadline - 250 ms: SIGTERM to the group ── 200 ms later: SIGKILL ── deadline: nobody waits any more

Its exit code counts only when it ended by itself, before the first signal. What it left behind in its group is killed
when it ends; the pipe is not waited for, since a child that went on may keep it open for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Nothing of the daemon's: its environment may hold what a program should not see, and PATH decides what runs.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "LC_ALL": "C", "HOME": "/"}
OUTPUT_BYTES = 4096  # kept of what it prints: the end, where the error is
TERM_BEFORE_MS = 250  # the deadline: time to log out of its device
KILL_AFTER_MS = 200  # that
CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `code` is None when it did not end by itself in time, or was not started (`error` says why).

    `cut`: more was printed than `output` holds, so that it begins anywhere.
    """

    code: int | None
    output: bytes = b""
    cut: bool = False
    error: str = ""


def _ready(reading: set[int], writing: set[int], due: float | None) -> set[int]:
    """Wait for any of the descriptors until `due`. Not select(2), which knows none above 1023."""
    poll = select.poll()
    for descriptor in reading:
        poll.register(descriptor, select.POLLIN)
    for descriptor in writing:
        poll.register(descriptor, select.POLLOUT)
    rest_ms = None if due is None else max(0.0, due - time.monotonic()) * 1000
    return {descriptor for descriptor, _ in poll.poll(rest_ms)}


class Runs:
    """Runs programs, `most` at a time: those that cannot even be killed must not fill the machine.

    `kept`: so many bytes of what each prints, the last ones.
    """

    def __init__(self, most: int = 8, kept: int = OUTPUT_BYTES) -> None:
        self._most = most
        self._kept = kept
        self._alive = 0
        self._lock = threading.Lock()

    async def run(self, path: str, text: bytes, *, deadline_ms: int, arguments: tuple[str, ...] = ()) -> Ended:
        """Run `path`, `text` on its standard input. When cancelled, its group is told to end.

        No secret in `arguments`: every user of the host can read them.
        """
        with self._lock:
            if self._alive >= self._most:
                return Ended(None, error=f"{self._alive} earlier runs have not ended, although they were killed")
            self._alive += 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Ended] = loop.create_future()

        def settle(ended: Ended) -> None:
            if not future.done():
                future.set_result(ended)

        def tell(ended: Ended) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, ended)

        run = _Run((path, *arguments), text, deadline_ms, tell, self._kept)
        try:
            threading.Thread(target=self._work, args=(run, tell), name=f"run {path}", daemon=True).start()
        except RuntimeError as error:
            self._gone()
            return Ended(None, error=str(error))
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                return await future
        except TimeoutError:  # it is still being loaded, or cannot be killed
            return Ended(None)
        finally:
            run.end()

    def _work(self, run: _Run, tell: Callable[[Ended], None]) -> None:
        ended = None
        try:
            ended = run.work()
        finally:
            self._gone()
        if ended is not None:  # told last: whoever hears of the end may run the next one at once
            tell(ended)

    def _gone(self) -> None:
        with self._lock:
            self._alive -= 1


class _Run:
    """One run. `work` is its thread; `end` may be called from any other."""

    def __init__(
        self, command: tuple[str, ...], text: bytes, deadline_ms: int, tell: Callable[[Ended], None], kept: int
    ) -> None:
        self._command = command
        self._kept = kept
        self._tell = tell
        self._term_at = time.monotonic() + max(deadline_ms - TERM_BEFORE_MS, deadline_ms // 2) / 1000
        self._input = memoryview(text)
        self._output = bytearray()
        self._cut = False
        self._lock = threading.Lock()  # of the three below: a group's number is another's once its leader is reaped
        self._ending = False
        self._over = False
        self._group: int | None = None
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def end(self) -> None:
        """Tell it to end, if it has not: SIGTERM now, SIGKILL soon after by its own thread."""
        with self._lock:
            if not self._over and not self._ending:
                self._ending = True
                self._signal(signal.SIGTERM)
                os.write(self._wake, b".")

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group; with the lock held."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or set-user-id
                os.killpg(self._group, number)

    def work(self) -> Ended | None:
        """Start it, look after it, reap it. None where it has told before that it did not end by itself."""
        try:
            child = subprocess.Popen(  # noqa: S603 - the configuration names the program; no shell
                self._command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
                group=os.getegid(),  # its own already: what this changes is that Python does not use vfork, see above
            )
        except OSError as error:
            self._finish()
            return Ended(None, error=error.strerror or str(error))
        with self._lock:
            self._group = child.pid
            if self._ending:
                self._signal(signal.SIGTERM)
        exited = os.pidfd_open(child.pid)
        try:
            by_itself = self._look_after(child, exited)
            if not by_itself:
                self._tell(Ended(None, bytes(self._output), cut=self._cut))
            _ready({exited}, set(), None)  # it may never come, in a thread that nobody waits for
        finally:
            os.close(exited)
        with self._lock:
            self._signal(signal.SIGKILL)  # what it left behind
            code = child.wait()
            self._group = None
        self._finish()
        return Ended(code, bytes(self._output), cut=self._cut) if by_itself else None

    def _look_after(self, child: subprocess.Popen[bytes], exited: int) -> bool:
        """Feed it, read it, end it in time. Whether it ended by itself; it is not reaped yet."""
        if child.stdin is None or child.stdout is None:
            raise AssertionError("both are pipes")
        with child.stdin as stdin, child.stdout as stdout:
            os.set_blocking(stdin.fileno(), False)
            os.set_blocking(stdout.fileno(), False)
            due = self._term_at
            killing = False
            reading = {stdout.fileno(), exited, self._woken}
            while True:
                writing = set() if stdin.closed else {stdin.fileno()}
                ready = _ready(reading, writing, due)
                if writing & ready and not self._feed(stdin.fileno()):
                    stdin.close()
                if stdout.fileno() in ready and not self._read(stdout.fileno()):
                    reading.discard(stdout.fileno())
                if exited in ready:
                    self._read(stdout.fileno())  # its last words
                    with self._lock:  # seen late, by a thread that was frozen, is late
                        return not self._ending and time.monotonic() < self._term_at
                if time.monotonic() >= due and killing:
                    with self._lock:
                        self._signal(signal.SIGKILL)
                    return False
                if not killing and (self._woken in ready or time.monotonic() >= due):
                    killing = True
                    due = time.monotonic() + KILL_AFTER_MS / 1000
                    reading.discard(self._woken)
                    with self._lock:
                        self._ending = True
                        self._signal(signal.SIGTERM)

    def _feed(self, stdin: int) -> bool:
        """Write what the pipe takes. False when nothing is left to be written."""
        try:
            self._input = self._input[os.write(stdin, self._input) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False  # it does not read: its own business
        return len(self._input) > 0

    def _read(self, stdout: int) -> bool:
        """Take what is there, keep its end. False at the end of the stream."""
        try:
            chunk = os.read(stdout, CHUNK)
        except BlockingIOError:
            return True
        self._output += chunk
        if len(self._output) > self._kept:
            del self._output[: -self._kept]
            self._cut = True
        return bool(chunk)

    def _finish(self) -> None:
        with self._lock:
            self._over = True
            os.close(self._woken)
            os.close(self._wake)
