"""The rebuild's side of the network: how every other node stands, and a backup from one of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from failoverd.credentials import CredentialsError
from failoverd.rebuild import CODES, RebuildError, programs, protocol
from failoverd.rebuild.local import Standing
from failoverd.rebuild.protocol import ALIVE, ANSWER, ASK, DATA, END
from failoverd.runtime.ours import credentials_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.credentials import Credentials
    from failoverd.rebuild.progress import Progress

SPARE = 1.1  # of the estimate: prepare makes files grow, and the donor is written to meanwhile
SPARE_BYTES = 64 << 20


class Others:
    """The other data nodes' donors."""

    def __init__(self, config: Config, progress: Progress) -> None:
        self._config = config
        self._progress = progress
        self._credentials: Credentials | None = None

    def _context(self) -> ssl.SSLContext:
        """By what the certificate files have now: a rebuild may take days. Raises CredentialsError."""
        if self._credentials is None:
            self._credentials = credentials_of(self._config)
        self._credentials.renew()
        return self._credentials.client

    def names(self) -> list[str]:
        """All data nodes but this one."""
        members = self._config.members.items()
        return [name for name, member in members if member.kind == "data" and name != self._config.this.name]

    def standing(self, name: str) -> Standing:
        """Ask one. Raises RebuildError."""
        with self._conversation(name) as connection:
            protocol.tell(connection, ASK, {"what": "standing"})
            return Standing.of(_accepted(protocol.Reader(connection).message(ANSWER)))

    def primary(self) -> tuple[str, Standing]:
        """Find the one whose database is writable. Raises RebuildError where that is not exactly one."""
        writable, silent = [], []
        for name in self.names():
            try:
                standing = self.standing(name)
            except RebuildError as error:
                silent.append(f"{name}: {error}")
                continue
            if not standing.read_only:
                writable.append((name, standing))
        if len(writable) != 1:
            found = ", ".join(name for name, _ in writable) or "none"
            raise RebuildError("REBUILD_NO_PRIMARY", "; ".join([f"writable: {found}", *silent]))
        return writable[0]

    def receive(self, name: str, into: Path, tools: programs.Programs, *, from_primary: bool) -> tuple[str, str]:
        """Take a backup from node `name` into the directory `into`. Returns the donor's state before and after.

        Raises RebuildError: then `into` holds a part that is of no use.
        """
        with self._conversation(name) as connection:
            protocol.tell(connection, ASK, {"what": "backup", "from_primary": from_primary})
            reader = protocol.Reader(connection)
            answer = _accepted(reader.message(ANSWER))
            estimate = answer.get("bytes")
            if not isinstance(estimate, int) or not 0 <= estimate < 1 << 63:
                raise RebuildError("REBUILD_STREAM", "an answer without a size")
            _fits(estimate, into)
            child = tools.start(
                "mbstream", "-x", "-C", str(into), stdin=subprocess.PIPE, stderr=subprocess.PIPE, code="REBUILD_STREAM"
            )
            try:
                if child.stdin is not None:  # fewer turns between the two programs
                    fcntl.fcntl(child.stdin, fcntl.F_SETPIPE_SZ, protocol.PIPE)
                end = _take(reader, child, estimate, self._progress.say)
            except OSError as error:
                raise RebuildError("REBUILD_STREAM", f"from {name}: {type(error).__name__}: {error}") from None
            finally:
                programs.end(child)
        before, after = end.get("state_before"), end.get("state_after")
        if not all(isinstance(word, str) and protocol.POSITION.fullmatch(word) for word in (before, after)):
            raise RebuildError("REBUILD_STREAM", "an end without the positions")
        return str(before), str(after)

    @contextlib.contextmanager
    def _conversation(self, name: str) -> Iterator[ssl.SSLSocket]:
        address, port = self._config.members[name].address, self._config.peer.rebuild_port
        try:
            plain = socket.create_connection((address, port), timeout=protocol.HANDSHAKE_S)
            with plain, self._context().wrap_socket(plain, server_hostname=address) as connection:
                protocol.keep_alive(connection, protocol.STALL_S)
                yield connection
        except (OSError, CredentialsError) as error:  # ssl.SSLError and TimeoutError are
            words = f"{name} ({address}:{port}): {type(error).__name__}: {error}"
            raise RebuildError("REBUILD_NO_DONOR", words) from None


def _accepted(answer: dict[str, object]) -> dict[str, object]:
    """Raise the donor's own refusal, if it is one."""
    if "code" in answer:
        code = str(answer["code"])
        raise RebuildError(code if code in CODES else "REBUILD_STREAM", f"the donor says: {answer.get('reason')}")
    return answer


def _fits(estimate: int, into: Path) -> None:
    found = os.statvfs(into)
    free, needed = found.f_bavail * found.f_frsize, int(estimate * SPARE) + SPARE_BYTES
    if free < needed:
        raise RebuildError("REBUILD_NO_SPACE", f"{into}: {free} bytes are free, about {needed} are needed")


def _take(
    reader: protocol.Reader, child: subprocess.Popen[bytes], estimate: int, say: Callable[..., None]
) -> dict[str, object]:
    """Feed `child` with all DATA frames, and return the END once it has written them."""
    if child.stdin is None or child.stderr is None:
        raise AssertionError("both are pipes")
    begun = told = time.monotonic()
    got = 0
    while True:
        kind, payload = reader.frame()
        if kind == END:
            break
        if kind == DATA:
            try:
                _write(child.stdin.fileno(), payload)
            except BrokenPipeError:
                words = programs.last_line(os.read(child.stderr.fileno(), programs.LAST_BYTES))
                raise RebuildError("REBUILD_STREAM", f"mbstream ended early: {words}") from None
            got += len(payload)
        elif kind != ALIVE:
            raise RebuildError("REBUILD_STREAM", f"a frame of kind {kind!r} in the middle")
        now = time.monotonic()
        if now - told >= 1.0:
            told = now
            rate = got / (now - begun)
            left = round(max(estimate - got, 0) / rate) if rate else None
            say("receive", bytes=got, of=max(estimate, got), rate=round(rate), left_s=left)
    end = _accepted(protocol.parsed(payload))
    if end.get("bytes") != got:
        raise RebuildError("REBUILD_STREAM", f"{got} bytes arrived of {end.get('bytes')}")
    child.stdin.close()
    printed: bytes = child.stderr.read()
    if child.wait() != 0:
        raise RebuildError("REBUILD_STREAM", f"mbstream: {programs.last_line(printed)}")
    say("receive", bytes=got, of=got, rate=round(got / max(time.monotonic() - begun, 0.001)), left_s=0)
    return end


def _write(descriptor: int, payload: memoryview) -> None:
    while payload:
        payload = payload[os.write(descriptor, payload) :]
