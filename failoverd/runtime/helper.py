"""`failoverd helper`: what this node's daemon may not do itself, done for it by a second process.

The daemon listens to the network, so that its unit takes from it what it does not need: it sees the host's files
read-only, in a mount namespace of its own, and has no right to be another user or to pass over a file's owner. What it
then cannot do is done here, in the host's own mounts: a mail store must be mounted for everybody, a disk written to as
its directory's owner, a fence agent run as it would be by hand.

    daemon ──/run/failoverd/helper.sock──> one line of JSON, one ask a connection ──> the adapter that does it
           <────────────────────────────── one line: how it ended
           ── closes ─────────────────────> what was begun is ended

What nobody waits for any more is not begun: a process that stood still finds asks of a time that is over, to cut the
power of a node that may be primary by now.

It takes no program, no path and no address from the daemon: it reads the same configuration, and an ask only names what
stands there. It decides nothing and keeps nothing; started again it goes on. Only root is answered. `release` is asked
to see whether it still answers, and is of the daemon's own release.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from failoverd import __version__
from failoverd.core.model import NodeKind, NodeName
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.probes.disk import lock_of, writer
from failoverd.probes.host import space
from failoverd.runtime import host
from failoverd.runtime.clock import BootClock
from failoverd.runtime.helped import ASK_BYTES, SOCKET
from failoverd.runtime.local import fence_of, locks_of, mail_store_of, queue_of
from failoverd.runtime.schedule import disks_of
from failoverd.runtime.systemd import Notifier

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from failoverd.actions.handon import HandOn
    from failoverd.actions.queue import PostfixQueue
    from failoverd.config import Config
    from failoverd.ports import MovedStore, Result

ASK_S = 5.0  # from the connection to the end of the ask
LONGEST_MS = 3_600_000  # that anything may take, whatever is asked
MOST = 64  # connections: those that wait for a hung disk must not fill the machine
WATCH_S = 5.0  # between two signs of life, a fraction of what systemd waits for one
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

Answer = dict[str, object]
T = TypeVar("T")


class AskError(Exception):
    """The configuration has nothing like what is asked."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One ask: `verb`, how long it may take, and what else it says."""

    verb: str
    deadline_ms: int
    given: dict[str, Any] = field(default_factory=dict)

    def node(self, config: Config, name: str = "node") -> NodeName:
        """A member that it names."""
        found = self.given.get(name)
        if found not in config.nodes:
            raise AskError(f"{name}: {found!r} is no node of this cluster")
        return NodeName(str(found))


class Means:
    """What the configuration gives to work with, and the verbs. What runs at a reload goes on with the old.

    `former` is what there was before: what would be made alike is kept, since it knows what of it still runs.
    """

    def __init__(self, config: Config, state: Path, runtime: Path, former: Means | None = None) -> None:
        self.config = config
        self._runtime = runtime
        self._locks = locks_of(config)
        self.fence = fence_of(config)
        self.moved = mail_store_of(config, runtime)
        self._queue = queue_of(config, state) if config.this.kind is NodeKind.DATA else None
        self.looking = Aside("look into the mail queue")
        self.spaces: dict[str, Aside] = {}
        if former is not None:
            self.looking, self.spaces = former.looking, former.spaces
            if former.config.mail_store == config.mail_store:
                self.moved = former.moved
            if former.config.fencing == config.fencing:
                self.fence = former.fence
        self.verbs: dict[str, Callable[[Ask], Awaitable[Answer]]] = {
            "fence-off": self._fence_off,
            "fence-status": self._fence_status,
            "store-take": self._store_take,
            "store-release": self._store_release,
            "store-look": self._store_look,
            "locks": self._break_locks,
            "space": self._space,
            "queue-waiting": self._queue_waiting,
            "queue-drain": self._queue_drain,
            "queue-hand-on": self._queue_hand_on,
        }

    def writer_of(self, ask: Ask) -> list[str]:
        """The command that writes to one of the configured disks."""
        path = str(ask.given.get("path"))
        if path not in map(str, self.config.disks.write):
            raise AskError(f"path: {path!r} is not one of disks.write")
        return writer(path, lock_of(path, self._runtime))

    async def _fence_off(self, ask: Ask) -> Answer:
        if self.fence is None:
            raise AskError("no fence agents are configured")
        return _told(await self.fence.power_off(ask.node(self.config), deadline_ms=ask.deadline_ms))

    async def _fence_status(self, ask: Ask) -> Answer:
        if self.fence is None:
            raise AskError("no fence agents are configured")
        node = ask.node(self.config)
        own = node == self.config.this.name
        return _told(await self.fence.status(node, own=own, deadline_ms=ask.deadline_ms))

    async def _store_take(self, ask: Ask) -> Answer:
        previous = ask.node(self.config, "previous") if ask.given.get("previous") is not None else None
        term, deadline_ms = int(ask.given["term"]), ask.deadline_ms
        return _told(await self._store().take(term=term, previous=previous, deadline_ms=deadline_ms))

    async def _store_release(self, ask: Ask) -> Answer:
        return _told(await self._store().release(term=int(ask.given["term"]), deadline_ms=ask.deadline_ms))

    async def _store_look(self, ask: Ask) -> Answer:
        found = await self._store().look(deadline_ms=ask.deadline_ms)
        here = getattr(found.facts, "here", None)
        return {"health": found.health.value, "code": found.code, "reason": found.reason, "here": here}

    def _store(self) -> MovedStore:
        if self.moved is None:
            raise AskError("the mail store does not move")
        return self.moved

    async def _break_locks(self, ask: Ask) -> Answer:
        stopped = threading.Event()
        walk = partial(
            self._locks.break_locks, given=bool(ask.given["given"]), deadline_ms=ask.deadline_ms, stopped=stopped
        )
        try:
            return _told(await Aside("walk through the mail store").run(walk))
        finally:
            stopped.set()

    async def _space(self, ask: Ask) -> Answer:
        path = str(ask.given.get("path"))
        if path not in disks_of(self.config):
            raise AskError(f"path: {path!r} is not one of host.disks")
        aside = self.spaces.setdefault(path, Aside(f"look at {path}"))
        found = await _in_time(aside, partial(space, path), ask)
        return {"free_percent": found.free_percent, "read_only": found.read_only}

    async def _queue_waiting(self, ask: Ask) -> Answer:
        queue, _ = self._mail_queue()
        found = await _in_time(self.looking, queue.waiting, ask)
        return {"waiting": [found.moving, found.deferred, found.held, found.held_by_others]}

    async def _queue_drain(self, ask: Ask) -> Answer:
        queue, _ = self._mail_queue()
        return _told(await Aside("drain the mail queue").run(partial(queue.drain, deadline_ms=ask.deadline_ms)))

    async def _queue_hand_on(self, ask: Ask) -> Answer:
        _, hands_on = self._mail_queue()
        to, own = ask.node(self.config, "to"), bool(ask.given["own"])
        address = self.config.nodes[to].address
        return _told(await hands_on.run(to, address, own=own, deadline_ms=ask.deadline_ms))

    def _mail_queue(self) -> tuple[PostfixQueue, HandOn]:
        if self._queue is None:
            raise AskError("the mail queue is not failoverd's business")
        return self._queue


class Helper:
    """Answers on the socket. `load` reads the configuration and blocks; it is given what there was before."""

    def __init__(self, means: Means, load: Callable[[Means], Means]) -> None:
        self._means = means
        self._load = load
        self._open = 0

    async def renew(self) -> None:
        """Take the configuration as it is now; one that is wrong leaves the old in force."""
        try:
            self._means = await asyncio.to_thread(self._load, self._means)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it is said, and nothing changes
            say(f"the configuration is not taken: {error}")

    async def connected(self, reader: asyncio.StreamReader, sender: asyncio.StreamWriter) -> None:
        """One connection: one ask, one answer."""
        self._open += 1
        try:
            if not _is_trusted(sender.get_extra_info("socket")):
                say("somebody who is not root asked")
            elif self._open > MOST:
                sender.write(_line({"error": f"{MOST} asks have not ended"}))
            else:
                async with asyncio.timeout(ASK_S):
                    line = await reader.readline()
                if line and not _is_gone(sender):
                    await self._answer(_parsed(line), reader, sender)
        except (AskError, TimeoutError, ValueError) as error:  # ValueError: a line longer than the limit
            sender.write(_line({"error": str(error) or "no ask came"}))
        except OSError:
            pass  # who asked is gone
        finally:
            self._open -= 1
            with contextlib.suppress(OSError):
                sender.close()

    async def _answer(self, ask: Ask, reader: asyncio.StreamReader, sender: asyncio.StreamWriter) -> None:
        if ask.verb == "disk":
            await _lend(self._means.writer_of(ask), sender)
            return
        if ask.verb == "renew":
            await self.renew()
            sender.write(_line({}))
            return
        if ask.verb == "release":
            sender.write(_line({"release": __version__}))
            return
        verb = self._means.verbs.get(ask.verb)
        if verb is None:
            raise AskError(f"verb: {ask.verb!r} is not known")
        working = asyncio.ensure_future(_attempted(verb, ask))
        leaving = asyncio.ensure_future(reader.read(1))  # nothing comes any more but the end
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
            return
        sender.write(_line(working.result()))


async def _in_time(aside: Aside, look: Callable[[], T], ask: Ask) -> T:
    """What `look` finds. Raises OSError (ETIMEDOUT) where it does not come back in time, or an earlier one has not."""
    try:
        if not aside.busy:
            async with asyncio.timeout(ask.deadline_ms / 1000):
                return await aside.run(look)
    except TimeoutError:
        pass
    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


async def _attempted(verb: Callable[[Ask], Awaitable[Answer]], ask: Ask) -> Answer:
    try:
        return await verb(ask)
    except (AskError, ThreadRefusedError) as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{error.filename}: {error.strerror}" if error.filename else str(error), "errno": error.errno}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return {"error": f"{ask.verb}: {type(error).__name__}: {error}"}


async def _lend(command: list[str], sender: asyncio.StreamWriter) -> None:
    """Give the connection itself to a writer, which ends with it. It belongs to nobody here then."""
    sender.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads and writes
    descriptor = os.dup(sender.get_extra_info("socket").fileno())

    def start() -> None:
        try:
            os.set_blocking(descriptor, True)
            os.write(descriptor, _line({}))
            child = subprocess.Popen(  # noqa: S603 - our own program, on a disk of the configuration
                command, stdin=descriptor, stdout=descriptor, stderr=subprocess.DEVNULL, group=os.getegid()
            )
        finally:
            os.close(descriptor)
        threading.Thread(target=child.wait, name="disk writer", daemon=True).start()

    await Aside("start a disk's writer").run(start)


def _listening(path: Path) -> socket.socket:
    """A socket that nobody but its owner may connect to, at any moment."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        made.bind(str(path))
    finally:
        os.umask(mask)
    return made


def _is_trusted(connected: socket.socket) -> bool:
    _, user, _ = CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return user in (0, os.geteuid())


def _parsed(line: bytes) -> Ask:
    """Raises AskError."""
    try:
        found = json.loads(line)
        verb, deadline_ms = str(found.pop("verb")), min(max(1, int(found.pop("deadline_ms"))), LONGEST_MS)
        now_ms = BootClock().now_ms()
        rest_ms = min(deadline_ms, int(found.pop("until_ms", now_ms + deadline_ms)) - now_ms)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise AskError(f"no ask: {type(error).__name__}: {error}") from error
    if rest_ms <= 0:
        raise AskError("it came after its deadline: this process, or the host, stood still")
    return Ask(verb, rest_ms, found)


def _is_gone(sender: asyncio.StreamWriter) -> bool:
    """Whether who asked has given up meanwhile. The kernel is asked: its end may not have reached the reader yet."""
    poll = select.poll()
    poll.register(sender.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


def _told(result: Result) -> Answer:
    return {"outcome": result.outcome.value, "code": result.code, "reason": result.reason}


def _line(answer: Answer) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def say(text: str) -> None:
    """One line to standard error."""
    sys.stderr.write(f"helper: {text}\n")
    sys.stderr.flush()


def main(config: Config, options: argparse.Namespace) -> int:
    """Answer until SIGTERM; read the configuration again at SIGHUP."""
    options.runtime.mkdir(parents=True, exist_ok=True, mode=0o711)  # as the units have it

    def load(former: Means) -> Means:
        from failoverd import config as configuration  # noqa: PLC0415 - only at a reload

        return Means(configuration.load(options.config, options.node), options.state, options.runtime, former)

    asyncio.run(
        serve(Helper(Means(config, options.state, options.runtime), load), options.runtime / SOCKET, Notifier())
    )
    return 0


async def serve(helper: Helper, path: Path, notifier: Notifier) -> None:
    """Listen at `path` until told to end."""
    for refused in host.harden(realtime=False):
        say(f"{refused.code}: {refused.reason}")
    ended, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    async with await asyncio.start_unix_server(helper.connected, sock=_listening(path), limit=ASK_BYTES):
        notifier.ready("helps the daemon")
        waiting = asyncio.ensure_future(ended.wait())
        while not ended.is_set():
            renewing = asyncio.ensure_future(again.wait())
            await asyncio.wait({waiting, renewing}, timeout=WATCH_S, return_when=asyncio.FIRST_COMPLETED)
            renewing.cancel()
            if again.is_set():
                again.clear()
                notifier.reloading()
                await helper.renew()
                notifier.ready("helps the daemon")
            notifier.watchdog()
        notifier.stopping()
