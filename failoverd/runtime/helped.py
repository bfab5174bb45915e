"""The daemon's side of failoverd-helper: adapters like the others, each ask a connection (see helper.py).

Whoever is not helped says so: an ask that was not taken is FAILED, one whose answer did not come, or is none, is
UNKNOWN, since it may have been done. Nothing here waits longer than the deadline, and to give up closes the connection,
which ends at the other side what was begun.

The helper is another process: it may be away, hang, or be of the release before an upgrade. `watch` finds that out,
before anything is asked that a failover needs. A look that it did not take is no verdict on a disk or a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from failoverd import __version__
from failoverd.core.model import Health, Outcome, QueueFacts, Reading, StoreFacts
from failoverd.ports import Result
from failoverd.probes.aside import NoLookError
from failoverd.probes.host import Space
from failoverd.runtime.clock import BootClock
from failoverd.runtime.host import Refused

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from failoverd.core.model import NodeName

SOCKET = "helper.sock"
ASK_BYTES = 65_536
GRACE_MS = 100  # the adapter over there keeps the deadline; this is how much later its answer is not waited for
POLL_S = 0.05  # how soon a walk that is not wanted any more is ended
START_S = 0.5  # for a disk's writer
# Below the probes' own deadlines: they must be told which of both does not answer, the helper or what it looks at.
SPACE_MS, QUEUE_MS = 700, 1700
WATCH_S, WATCH_MS = 5.0, 1000
RENEW_MS = 5000  # it reads the configuration, as `Reloader` did

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class HelperError(NoLookError):
    """No answer. `sent`: it may be done all the same.

    `refused`: the helper says so itself, with the system's `errno` where that is why.
    """

    code = "HELPER_MISSING"

    def __init__(self, text: str, *, sent: bool, refused: bool = False, errno: int = 0) -> None:
        super().__init__(f"failoverd-helper: {text}")
        self.sent = sent
        self.refused = refused
        self.errno = errno

    @property
    def result(self) -> Result:
        """How an action ends that was not answered."""
        outcome = Outcome.UNKNOWN if self.sent else Outcome.FAILED
        return Result(outcome, self.code, str(self))


class Helper:
    """The socket of failoverd-helper on this node."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._found: Refused | None = None

    def missing(self) -> Refused | None:
        """What the daemon sees of it; None when it listens, and answered when it was last looked at."""
        try:
            self._connected().close()
        except OSError as error:
            return Refused("HELPER_MISSING", f"failoverd-helper does not listen: {error.strerror or error}")
        return self._found

    async def watch(self, every_s: float = WATCH_S) -> None:
        """Have it work by the configuration that the daemon has begun with, then look at it for ever."""
        await self.renew()
        while True:
            self._found = await self._looked_at()
            await asyncio.sleep(every_s)

    async def _looked_at(self) -> Refused | None:
        try:
            release = (await self.ask("release", deadline_ms=WATCH_MS)).get("release")
        except HelperError as error:
            if not error.refused:
                return Refused(error.code, str(error))
            release = None  # it knows no such ask
        if release == __version__:
            return None
        of = f"release {release}" if release else "another release"
        return Refused("HELPER_RELEASE", f"failoverd-helper is of {of}, this daemon of release {__version__}")

    async def ask(self, verb: str, *, deadline_ms: int, **given: object) -> dict[str, Any]:
        """Ask on the loop. Raises HelperError; when cancelled, what was begun is ended."""
        sent = False
        loop = asyncio.get_running_loop()
        try:
            with self._connected() as asked:
                async with asyncio.timeout((deadline_ms + GRACE_MS) / 1000):
                    await loop.sock_sendall(asked, _ask(verb, deadline_ms, given))
                    sent, line = True, b""
                    while not line.endswith(b"\n"):
                        line += (chunk := await loop.sock_recv(asked, ASK_BYTES))
                        if not chunk:
                            raise HelperError("it ended before it had answered", sent=True)
        except TimeoutError as error:
            raise HelperError(f"{verb}: no answer within {deadline_ms} ms", sent=sent) from error
        except OSError as error:
            raise HelperError(f"{verb}: {error.strerror or error}", sent=sent) from error
        return _answer(verb, line)

    def ask_blocking(
        self, verb: str, *, deadline_ms: int, stopped: threading.Event | None = None, **given: object
    ) -> dict[str, Any]:
        """Ask from a thread. Raises HelperError; `stopped` gives it up, and ends what was begun."""
        sent, line = False, b""
        end = time.monotonic() + (deadline_ms + GRACE_MS) / 1000
        try:
            with self._connected() as asked:
                asked.settimeout(POLL_S)
                asked.sendall(_ask(verb, deadline_ms, given))
                sent = True
                while not line.endswith(b"\n"):
                    if stopped is not None and stopped.is_set():
                        raise HelperError(f"{verb}: not wanted any more", sent=True)
                    if time.monotonic() > end:
                        raise HelperError(f"{verb}: no answer within {deadline_ms} ms", sent=True)
                    with contextlib.suppress(TimeoutError):
                        line += (chunk := asked.recv(ASK_BYTES))
                        if not chunk:
                            raise HelperError("it ended before it had answered", sent=True)
        except OSError as error:
            raise HelperError(f"{verb}: {error.strerror or error}", sent=sent) from error
        return _answer(verb, line)

    def lend(self, path: str) -> LentWriter:
        """A writer for the disk at `path` (probes/disk.py). Blocks, not for long. Raises HelperError."""
        with contextlib.ExitStack() as unless_lent:
            try:
                asked = unless_lent.enter_context(self._connected())
                asked.settimeout(START_S)
                asked.sendall(_ask("disk", int(START_S * 1000), {"path": path}))
                _answered_by_a_writer(asked)
            except OSError as error:
                raise HelperError(f"disk: {error.strerror or error}", sent=True) from error
            asked.settimeout(None)
            unless_lent.pop_all()
        return LentWriter(asked)

    def space(self, path: str) -> Space:
        """What is left of the file system at `path` (probes/host.py). Blocks. Raises OSError, or HelperError."""
        with _system_errors(path):
            found = self.ask_blocking("space", deadline_ms=SPACE_MS, path=path)
        return _understood(lambda: Space(float(found["free_percent"]), read_only=bool(found["read_only"])))

    async def renew(self) -> None:
        """Have it read the configuration again, before anything is asked by it. One that is away reads it by itself."""
        try:
            await self.ask("renew", deadline_ms=RENEW_MS)
        except HelperError as error:
            _log.warning("the helper did not answer", code=error.code, reason=str(error))

    def _connected(self) -> socket.socket:
        """Connect, which never waits on a Unix socket that does not block. Raises OSError."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            made.connect(self._path)
        except BaseException:
            made.close()
            raise
        return made


def _answered_by_a_writer(asked: socket.socket) -> None:
    """Read the first line, byte by byte: what follows is the writer's. Raises OSError, or HelperError."""
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := asked.recv(1)):
            raise OSError(errno.ECHILD, "failoverd-helper ended")
        line += byte
    _answer("disk", line)


def _ask(verb: str, deadline_ms: int, given: dict[str, object]) -> bytes:
    """`until_ms` is by the kernel's clock, which both have."""
    until_ms = BootClock().now_ms() + deadline_ms
    return json.dumps({"verb": verb, "deadline_ms": deadline_ms, "until_ms": until_ms, **given}).encode() + b"\n"


def _answer(verb: str, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise HelperError(f"{verb}: {error}", sent=True) from error
    if not isinstance(found, dict):
        raise HelperError(f"{verb}: no answer but {found!r}", sent=True)
    if said := found.get("error"):
        number = found.get("errno")
        known = number if isinstance(number, int) and number in errno.errorcode else 0
        raise HelperError(f"{verb}: {said}", sent=False, refused=True, errno=known)
    return found


def _understood(make: Callable[[], T]) -> T:
    """What `make` makes of an answer; another release's may lack what this one reads. Raises HelperError."""
    try:
        return make()
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise HelperError(f"an answer that is none: {type(error).__name__}: {error}", sent=True) from error


def _result(found: dict[str, Any]) -> Result:
    return _understood(lambda: Result(Outcome(found["outcome"]), str(found["code"]), str(found["reason"])))


@contextlib.contextmanager
def _system_errors(what: str) -> Iterator[None]:
    """The system's own errors over there are raised as such; that nobody looked stays a HelperError."""
    try:
        yield
    except HelperError as error:
        if error.errno:
            raise OSError(error.errno, os.strerror(error.errno), what) from error
        raise


class LentWriter:
    """A disk's writer that is somebody else's child: the connection is its standard input and output."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        self.input = self.output = connected.fileno()

    def end(self) -> None:
        """Let it end, which it does when it can."""
        self._connected.close()


class HelpedFence:
    """Implements ports.Fence."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper

    async def power_off(self, node: NodeName, *, deadline_ms: int) -> Result:
        """Cut the node's power."""
        try:
            return _result(await self._helper.ask("fence-off", node=node, deadline_ms=deadline_ms))
        except HelperError as error:
            return error.result

    async def status(self, node: NodeName, *, own: bool, deadline_ms: int) -> Result:
        """Whether it could be cut now."""
        try:
            return _result(await self._helper.ask("fence-status", node=node, own=own, deadline_ms=deadline_ms))
        except HelperError as error:
            return error.result


class HelpedStore:
    """Implements ports.MovedStore, and breaks the locks of a shared one (executor.MailStore)."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper

    async def take(self, *, term: int, previous: NodeName | None, deadline_ms: int) -> Result:
        """Make it usable here."""
        try:
            return _result(await self._helper.ask("store-take", term=term, previous=previous, deadline_ms=deadline_ms))
        except HelperError as error:
            return error.result

    async def release(self, *, term: int, deadline_ms: int) -> Result:
        """End its use here."""
        try:
            return _result(await self._helper.ask("store-release", term=term, deadline_ms=deadline_ms))
        except HelperError as error:
            return error.result

    async def look(self, *, deadline_ms: int) -> Reading:
        """Whether it is here, or could be."""
        try:
            found = await self._helper.ask("store-look", deadline_ms=deadline_ms)
            return _understood(
                lambda: Reading(
                    Health(found["health"]), str(found["code"]), str(found["reason"]), StoreFacts(found["here"])
                )
            )
        except HelperError as error:
            return Reading(Health.FAILED, error.code, str(error))

    def break_locks(self, *, given: bool, deadline_ms: int, stopped: threading.Event | None = None) -> Result:
        """Remove the locks that nodes left which are no primary any more; blocking."""
        try:
            return _result(self._helper.ask_blocking("locks", given=given, deadline_ms=deadline_ms, stopped=stopped))
        except HelperError as error:
            return error.result


class HelpedQueue:
    """Implements what the executor and the probe need of the mail queue, and what hands it on."""

    def __init__(self, helper: Helper, look_ms: int = QUEUE_MS) -> None:
        self._helper = helper
        self._look_ms = look_ms

    def waiting(self) -> QueueFacts:
        """Count; blocking. Raises OSError, or HelperError."""
        with _system_errors("the mail queue"):
            found = self._helper.ask_blocking("queue-waiting", deadline_ms=self._look_ms)
        return _understood(lambda: QueueFacts(*map(int, found["waiting"])))

    def drain(self, *, deadline_ms: int) -> Result:
        """Wait until nothing is being delivered; blocking."""
        try:
            return _result(self._helper.ask_blocking("queue-drain", deadline_ms=deadline_ms))
        except HelperError as error:
            return error.result

    async def run(self, to: NodeName, address: str, *, own: bool, deadline_ms: int) -> Result:  # noqa: ARG002 - the helper knows the address of a node
        """Hand all on to node `to`; `own`: take back what was held."""
        try:
            return _result(await self._helper.ask("queue-hand-on", to=to, own=own, deadline_ms=deadline_ms))
        except HelperError as error:
            return error.result
