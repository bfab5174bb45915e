"""MariaDB's own programs and systemctl: where they lie, what they get, and how they end.

Nothing of this process's environment reaches them, and no secret their command line: a password goes through a file in
memory that only they inherit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING

from failoverd.rebuild import RebuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "LC_ALL": "C", "HOME": "/"}
LAST_BYTES = 2048  # kept of what one prints: the error is at its end
SYSTEMCTL_S = 1000  # systemd itself gives MariaDB 900 s to start or stop


class Programs:
    """Those of one directory, or of the usual ones.

    `bound`: what is started does not outlive this process, however it ends: in its group is a shell that reads from us,
    and ends the group when there is nobody to read from. (PR_SET_PDEATHSIG is lost where mariadbd changes its user.)
    """

    def __init__(self, directory: Path | None, *, bound: bool = False) -> None:
        self._directory = directory
        self._bound = bound

    def path(self, name: str) -> str:
        """Return what to run for `name`: a path of the directory, or the name for PATH."""
        return name if self._directory is None else str(self._directory / name)

    def run(self, name: str, *arguments: str, code: str, limit_s: int = SYSTEMCTL_S) -> str:
        """Run one to its end and return what it printed. Raises RebuildError with `code` and its last line."""
        try:
            ended = subprocess.run(  # noqa: S603 - no shell; names are fixed, arguments are the configuration's
                [self.path(name), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=ENVIRONMENT,
                cwd="/",
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RebuildError(code, f"{name} did not end within {limit_s} s") from None
        except OSError as error:
            raise RebuildError(code, f"{name}: {error.strerror}") from None
        if ended.returncode != 0:
            raise RebuildError(code, f"{name} ended with {ended.returncode}: {last_line(ended.stderr)}")
        return ended.stdout.decode(errors="replace")

    def start(
        self,
        name: str,
        *arguments: str,
        code: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start one, in a process group of its own. Raises RebuildError with `code`."""
        try:
            child = subprocess.Popen(  # noqa: S603 - as above
                [self.path(name), *arguments],
                bufsize=0,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=ENVIRONMENT,
                cwd="/",
                pass_fds=pass_fds,
                start_new_session=not self._bound,
                process_group=0 if self._bound else None,  # a process of another session could not join it
            )
        except OSError as error:
            raise RebuildError(code, f"{name}: {error.strerror}") from None
        if self._bound:
            _guards[child.pid] = subprocess.Popen(
                ["/bin/sh", "-c", "read -r _; kill -KILL 0"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                process_group=child.pid,
            )
        return child


_guards: dict[int, subprocess.Popen[bytes]] = {}  # by the process that they share a group with


def end(child: subprocess.Popen[bytes]) -> None:
    """Have it gone, with what it started, whatever it does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    guard = _guards.pop(child.pid, None)
    if guard is not None:
        guard.wait()
    for pipe in (child.stdin, child.stdout, child.stderr, guard.stdin if guard is not None else None):
        if pipe is not None:
            pipe.close()


def last_line(output: bytes) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in output[-LAST_BYTES:].decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


@contextlib.contextmanager
def credentials(user: str, password: str) -> Iterator[int]:
    """Make an option file in memory for MariaDB's programs; give its descriptor, to be inherited."""
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    descriptor = os.memfd_create("failoverd-credentials")
    try:
        os.fchmod(descriptor, 0o600)  # MariaDB ignores an option file that others could have written
        os.write(descriptor, f'[client]\nuser="{user}"\npassword="{quoted}"\n'.encode())
        yield descriptor
    finally:
        os.close(descriptor)
