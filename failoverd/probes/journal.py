"""The journal of some units, line by line as it is written: `journalctl -f` as a child, read by a thread.

Why a child and not libsystemd in this process: it maps the journal's files, and a file that is cut short while it is
read, or a disk that hangs, would end or hold up the daemon that keeps the lease. A child that hangs is only silent.
Debian's python3-systemd is not in a virtual environment, and its like on PyPI is built against libsystemd's headers.

    journald ──files──> journalctl ──pipe (64 KiB)──> thread: the unit, the words ──> hear(unit, identifier, message)

- Only lines of the units are asked for, by `_SYSTEMD_UNIT`, which journald sets from the sender's cgroup: no other
  process can write under that name, whatever it calls itself.
- `--follow` alone asks for lines of this boot, by the boot's name, which in a container is another one in the daemon's
  own view of /proc (runtime/persist.py). `--merge` leaves the boot out; this host's lines are asked for by its name.
- A flood costs no more than LINES_PER_S: the thread then lets the pipe fill, which stops the child and nobody else.
  Who is that far behind jumps to now; `lost` says so, and counts are then too small.
- The child ends when the pipe does: also with a daemon that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.process import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

JOURNALCTL = "/usr/bin/journalctl"
DIRECTORIES = (Path("/var/log/journal"), Path("/run/log/journal"))
MACHINE_ID = Path("/etc/machine-id")
LINES_PER_S = 2000
BEHIND_S = 30.0
OPENING = "it is being opened"
AGAIN_S = 30.0  # after a child that ended
CHUNK = 65_536
LINE_MOST = 65_536  # journalctl itself leaves out fields of more than 4096 bytes
_FIELDS = "MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT"


def _of_this_host() -> list[str]:
    try:
        return ["--merge", f"_MACHINE_ID={MACHINE_ID.read_text().strip()}"]
    except OSError:  # a host that has no name writes its lines without one
        return []


class Journal:
    """Follows the journal from now on. `hear` is called from the thread; `words` are what one of must be in a line."""

    def __init__(
        self,
        units: Sequence[str],
        hear: Callable[[str, str, str], None],
        *,
        words: Sequence[bytes] = (),
        source: Sequence[str] = (),  # another journal than this host's: `--directory=…`
        directories: Sequence[Path] = DIRECTORIES,
    ) -> None:
        matches = [f"_SYSTEMD_UNIT={unit}" for unit in units]
        self._command = [
            *(JOURNALCTL, "--follow", "--lines=0", "--quiet", "--no-pager", "--output=json"),
            *(f"--output-fields={_FIELDS}", *(source or _of_this_host()), *matches),
        ]
        self._units = frozenset(units)
        self._hear = hear
        self._words = tuple(words)
        self._directories = directories
        self._lock = threading.Lock()
        self._stop, self._stopped = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closed = False
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self.error = OPENING
        self.lost = 0  # how often it was too far behind

    def start(self) -> None:
        """Begin, once. Raises RuntimeError where the system has no thread."""
        if self._thread is None:
            thread = threading.Thread(target=self._main, name="journal", daemon=True)
            thread.start()
            self._thread = thread

    def close(self) -> None:
        """End the child and the thread; waits for neither. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._child is not None:
                self._child.terminate()
            os.write(self._stopped, b".")
        if self._thread is None:
            self._end()

    @property
    def pid(self) -> int | None:
        """The child's number, while there is one."""
        child = self._child
        return child.pid if child is not None else None

    # ---- in the thread ----------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while not self._closed:
                if not any(any(directory.glob("*/*.journal")) for directory in self._directories):
                    self.error = f"there is no journal below {' or '.join(map(str, self._directories))}"
                elif self._follow():
                    continue  # jumped to now
                self._pause(AGAIN_S)
        finally:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._stop)
            os.close(self._stopped)

    def _pause(self, seconds: float) -> bool:
        """Wait, but not for longer than until `close`: whether that came."""
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        return bool(poll.poll(seconds * 1000)) or self._closed

    def _follow(self) -> bool:
        """One child's life. True when it was ended for being too far behind."""
        try:
            child = subprocess.Popen(  # noqa: S603 - a fixed program; no shell
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
                group=os.getegid(),  # its own already: so that Python forks, see process.py
            )
        except OSError as error:
            self.error = f"{JOURNALCTL}: {error.strerror}"
            return False
        with self._lock:
            self._child = child
            if self._closed:
                child.terminate()
        self.error = ""
        behind = False
        try:
            behind = self._read(child)
        finally:
            with self._lock:
                self._child = None
            child.kill()  # it may be stopped by a full pipe; a killed one that is gone already is not minded
            with contextlib.suppress(OSError):
                if child.stdout is not None:
                    child.stdout.close()
            code = child.wait()
        if not behind and not self.error:
            self.error = f"journalctl ended with {code}"
        return behind

    def _read(self, child: subprocess.Popen[bytes]) -> bool:
        """Take its lines. True when it is too far behind, False when it ended."""
        if child.stdout is None:
            raise AssertionError("it is a pipe")
        rest, second, lines = b"", 0, 0
        while chunk := os.read(child.stdout.fileno(), CHUNK):
            *whole, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_MOST:
                rest = b""
            for line in whole:
                if (now := int(time.monotonic())) != second:
                    second, lines = now, 0
                lines += 1
                if lines > LINES_PER_S and self._pause(1 - time.monotonic() % 1):
                    return False
                written_s = self._take(line)
                if written_s and time.time() - written_s > BEHIND_S:
                    self.lost += 1
                    return True
        return False

    def _take(self, line: bytes) -> float | None:
        """Tell one line, if it is one of those. When it was written, where it was looked at."""
        if not line.startswith(b"{"):
            self.error = line.decode(errors="replace")[:200]  # journalctl's own last words
            return None
        if self._words and not any(word in line for word in self._words):
            return None
        try:
            entry = json.loads(line)
            written_s = int(entry["__REALTIME_TIMESTAMP"]) / 1_000_000
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        unit, identifier, message = entry.get("_SYSTEMD_UNIT"), entry.get("SYSLOG_IDENTIFIER"), entry.get("MESSAGE")
        # A field that is no text (bytes, or given twice) is no line of theirs.
        if isinstance(unit, str) and unit in self._units and isinstance(identifier, str) and isinstance(message, str):
            self._hear(unit, identifier, message)
        return written_s
