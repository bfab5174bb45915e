"""`failoverd guard`: a second process that ends the database's part of the role, should the daemon not.

The daemon demotes itself in time as long as it runs. A daemon that was killed, stopped or wedged does not, and behind
its closed gate the database would stay writable beside the next primary's. This process is small, holds nothing else,
and knows one thing: the lease as the daemon last noted it.

    /run/failoverd/lease ──inotify──> in force    the server on the leash, the kernel's timer at the deadline
                                      running out read-only over SQL, when a live daemon does it too
                                      over, gone  read-only once more, and only then the leash is taken off
    SQL too slow, everything frozen: the kernel ends the server at the deadline (actions/leash.py)

It never acts while the lease is renewed, does nothing on a node that has held none, and leaves gate and address to the
kernel, which closes them by itself. A daemon that comes back and still holds the lease makes the database writable
again: it is the one that decides.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from failoverd import locks
from failoverd.actions.leash import Leash, LeashError, server_behind
from failoverd.core.model import DatabaseFacts, Outcome
from failoverd.runtime import host
from failoverd.runtime.clock import BootClock
from failoverd.runtime.persist import LeaseFile, boot_id
from failoverd.runtime.systemd import Notifier

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.core.lease import Held
    from failoverd.ports import Clock, Database

EX_CONFIG = 78
IDLE_MS = 5_000
RETRY_MS = 200  # after SQL that did not get through, and between looks for a server
LEAST_SQL_MS = 100
IN_CLOEXEC, IN_NONBLOCK = 0o2000000, 0o4000
IN_MOVED_TO, IN_DELETE = 0x80, 0x200


@dataclass(frozen=True, slots=True)
class Settings:
    """What it takes from the configuration."""

    data_node: bool
    dialect: str
    socket: str
    user: str
    password: str = field(repr=False)
    port: int
    demote_budget_ms: int


class Guard:
    """The decisions, one `turn` at a time; `wake` is called from another thread when SQL has ended."""

    def __init__(
        self,
        *,
        lease: LeaseFile,
        clock: Clock,
        database: Database,
        leash: Leash,
        settings: Settings,
        say: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._lease = lease
        self._clock = clock
        self._database = database
        self._leash = leash
        self._settings = settings
        self._say = say
        self._wake = wake
        self._owed = False  # a lease was seen, and since its end the database has not been seen read-only
        self._settled: Held | None = None  # the lease after which, or at whose end, it was
        self._sql: threading.Thread | None = None
        self._began_for: Held | None = None
        self._proven = False
        self._absent = False  # nobody listened: what listens by now is another server, started read-only
        self._again_ms = 0
        self._budget_ms = settings.demote_budget_ms
        self._told = ""
        self.refused = ""  # why the server cannot be tied

    def turn(self) -> int:
        """Look, act, and return how many milliseconds later to look again at the latest."""
        self._leash.tend()
        held, now_ms = self._noted(), self._clock.now_ms()
        self._sql_ended(held, now_ms)
        if held is not None and held.deadline_ms > now_ms:
            return self._in_force(held, now_ms)
        if held is not None and held != self._settled:
            self._owed = True  # also one that ended before this process was there
        if not self._owed:
            return IDLE_MS
        if self._sql is None and now_ms >= self._again_ms:
            self._begin(held, self._budget_ms)
        return RETRY_MS

    def end(self) -> None:
        """Let the server go: whoever ends this process in good order wants nothing of the server."""
        if not self._leash.release():
            self._say(f"server {self._leash.server} hangs in the kernel and ends with this process")

    def _noted(self) -> Held | None:
        try:
            noted = self._lease.noted()  # also one that is being given back: its end is the same
        except OSError as error:
            self._say(f"the lease cannot be read: {error}")
            return None
        if noted is None:
            return None
        # The daemon's own: one that was started with another configuration since demotes itself at another moment,
        # and ahead of it there is nothing to be done here.
        if noted.demote_budget_ms is not None:
            self._budget_ms = noted.demote_budget_ms
        return noted.held

    def _in_force(self, held: Held, now_ms: int) -> int:
        self._owed = True
        left_ms = held.deadline_ms - now_ms
        if held == self._settled:
            return left_ms + 1
        self._tie(held)
        # Not later than a live daemon: replicas then stop receiving, and a commit under way is acknowledged by nobody.
        due_ms = left_ms - self._budget_ms
        if due_ms > 0:
            return due_ms if self._leash.server is not None else min(due_ms, RETRY_MS)
        if self._sql is None and now_ms >= self._again_ms:
            self._say(f"the lease of term {held.term} has {left_ms} ms left and was not renewed: read-only")
            self._begin(held, max(left_ms, LEAST_SQL_MS))
        return min(RETRY_MS, left_ms + 1)

    def _tie(self, held: Held) -> None:
        try:
            if self._leash.server is None:
                server = server_behind(self._settings.socket)
                if server is None:
                    return
                self._leash.set(None)  # of the server before: it would end this process for nothing
                self._leash.tie(server)
            self._leash.set(held.deadline_ms)
        except LeashError as error:
            if str(error) != self.refused:
                self.refused = str(error)
                self._say(f"LEASH_REFUSED: {error}")
        else:
            self.refused = ""

    # ---- SQL --------------------------------------------------------------------------------------------------

    def _begin(self, held: Held | None, within_ms: int) -> None:
        self._began_for, self._proven, self._absent = held, False, False
        self._sql = threading.Thread(target=self._make_read_only, args=(within_ms,), name="sql", daemon=True)
        self._sql.start()

    def _make_read_only(self, within_ms: int) -> None:
        result = self._database.make_read_only(deadline_ms=within_ms)
        facts = result.facts
        if result.outcome is Outcome.SUCCEEDED and isinstance(facts, DatabaseFacts) and facts.read_only:
            self._proven = True
        else:
            self._absent = result.code == "DB_REFUSED"
            self._tell(f"not read-only: {result.code}: {result.reason}")
        self._wake()

    def _tell(self, text: str) -> None:
        """Say what is found again and again, once."""
        if text != self._told:
            self._told = text
            self._say(text)

    def _sql_ended(self, held: Held | None, now_ms: int) -> None:
        if self._sql is None or self._sql.is_alive():
            return
        self._sql.join()
        self._sql = None
        self._again_ms = now_ms + RETRY_MS
        if not self._proven:
            if not self._absent:
                self._kill_without_leash(held, now_ms)
        elif held == self._began_for:  # otherwise it was renewed meanwhile: the daemon is there again
            self._settled, self._owed = held, False
            self._leash.release()
            self._say("the database is read-only")

    def _kill_without_leash(self, held: Held | None, now_ms: int) -> None:
        """Where the kernel would not tie the server, what the timer would have done."""
        if held is not None and held.deadline_ms > now_ms:
            return  # a try is left, or it is renewed
        with suppress(LeashError, ProcessLookupError):
            server = server_behind(self._settings.socket)
            if server is not None:
                self._say(f"the lease is over and the database not read-only: server {server} is killed")
                os.kill(server, signal.SIGKILL)


class Marker:
    """/run/failoverd/guard: locked while the guard lives, and in it why it can do less than it should."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._descriptor = os.open(directory / "guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        locks.own(self._descriptor)
        self._text = ""
        os.ftruncate(self._descriptor, 0)

    def note(self, text: str) -> None:
        """Say `text`, where it is another than before."""
        if text != self._text:
            self._text = text
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)


def missing(directory: Path) -> host.Refused | None:
    """What the daemon sees of the guard; None when all is well."""
    try:
        descriptor = os.open(directory / "guard", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return host.Refused("GUARD_MISSING", "failoverd-guard has not run since this node started")
    try:
        if not locks.is_owned(descriptor):
            return host.Refused("GUARD_MISSING", "failoverd-guard does not run")
        text = os.pread(descriptor, 500, 0).decode(errors="replace")
        return host.Refused("LEASH_REFUSED", text) if text else None
    finally:
        os.close(descriptor)


def main(options: argparse.Namespace) -> int:
    """Be the guard until SIGTERM."""
    settings = _settings(options)
    if isinstance(settings, int):
        return settings
    notifier = Notifier()
    if not settings.data_node:
        notifier.ready()
        say("this node holds no mail: there is nothing to guard")
        return 0
    from failoverd.databases import DATABASES  # noqa: PLC0415 - not in the process that is forked for the settings

    database = DATABASES[settings.dialect](
        socket=settings.socket,
        user=settings.user,
        password=settings.password,
        replication_user="",
        replication_password="",
        replication_port=settings.port,
    )
    waking, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    stopping: list[int] = []
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stopping.append(received))
    marker = Marker(options.runtime)
    watch = _watch(options.runtime)

    def woken() -> None:
        with suppress(BlockingIOError):
            os.write(wake, b"\0")

    guard = Guard(
        lease=LeaseFile(options.runtime, boot_id()),
        clock=BootClock(),
        database=database,
        leash=Leash(),
        settings=settings,
        say=say,
        wake=woken,
    )
    for refused in host.harden(realtime=True):
        say(f"{refused.code}: {refused.reason}")
    try:
        notifier.ready("watches the lease")
        while not stopping:
            pause_ms = guard.turn()
            marker.note(guard.refused)
            notifier.watchdog()
            select.select([waking, watch], [], [], pause_ms / 1000)
            for descriptor in (waking, watch):
                with suppress(BlockingIOError):
                    os.read(descriptor, 65536)
    finally:
        guard.end()
    return 0


def say(text: str) -> None:
    """One line to standard error; lost where nobody reads, since waiting is the one thing not to be done here."""
    with suppress(OSError):
        if select.select([], [sys.stderr], [], 0)[1]:
            os.write(sys.stderr.fileno(), f"guard: {text}\n".encode())


def _watch(directory: Path) -> int:
    """Be told of each renewal (a file put in place) and of the end (its removal)."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK))
    if descriptor < 0 or libc.inotify_add_watch(descriptor, bytes(directory), IN_MOVED_TO | IN_DELETE) < 0:
        raise OSError(ctypes.get_errno(), f"inotify of {directory}: {os.strerror(ctypes.get_errno())}")
    return descriptor


def _settings(options: argparse.Namespace) -> Settings | int:
    """Have a child read the configuration: what reads it is four times the rest of this process, and only once needed.

    Returns the exit code where it cannot be read.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            code = _tell_settings(options, writing)
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return Settings(**json.loads(text)) if code == 0 else EX_CONFIG if code == EX_CONFIG else 1


def _tell_settings(options: argparse.Namespace, writing: int) -> int:
    from failoverd import config  # noqa: PLC0415 - only in the child
    from failoverd.core.model import NodeKind  # noqa: PLC0415 - likewise

    try:
        loaded = config.load(options.config, options.node)
    except config.ConfigError as error:
        sys.stderr.write(f"failoverd: {error}\n")
        sys.stderr.flush()
        return EX_CONFIG
    sql = loaded.database
    settings = Settings(
        data_node=loaded.this.kind is NodeKind.DATA,
        dialect=sql.dialect,
        socket=str(sql.socket),
        user=sql.user,
        password=sql.password.get_secret_value(),
        port=sql.port,
        demote_budget_ms=loaded.lease.demote_budget_ms,
    )
    with os.fdopen(writing, "w") as telling:
        json.dump(asdict(settings), telling)
    return 0
