"""Postfix's queue: what waits in it, and keeping it from being delivered while this node is no primary.

A node that comes back after its power was cut delivers what is left in its queue by itself, and what it had delivered
just before that a second time: Postfix takes a message out of its queue after the mailbox has it, and not in one with
that. So a node that is no primary holds its queue until somebody has asked the mailboxes.

    incoming, active, deferred ── 1. ids to the file, fsync ── 2. postsuper -h (those ids) ──> hold
    hold ── 1. postsuper -H (ids of the file) ── 2. they leave the file ──> back in the queue

Only ids that this node has written down before it held them are ever released: what an administrator holds stays held.
(One that failoverd held already and the administrator holds as well cannot be told apart, and is released.) An id that
is in no queue any more leaves the file at the next call, since Postfix's short ids come again.

The file is looked at before postsuper is run: an empty queue costs a look into a few directories, and no program.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from typing import TYPE_CHECKING

from failoverd.core.model import Outcome, QueueFacts
from failoverd.durable import sync_directory
from failoverd.ports import Result
from failoverd.process import Runs

if TYPE_CHECKING:
    from pathlib import Path

POSTSUPER = "/usr/sbin/postsuper"
LIVE = ("incoming", "active", "deferred")  # Postfix delivers from these, in this order of a message's life
HELD = "hold"
POLL_S = 0.02  # how often a queue that runs empty is looked at
LOOKS = 5  # a message moves from one queue to the next while they are read: again, until nothing is left to be held


class PostfixQueue:
    """The queue of one Postfix instance below `spool`; `config` is its configuration directory.

    `memory` is the file of the ids that this node has held.
    """

    def __init__(self, spool: Path, memory: Path, *, config: str = "/etc/postfix", postsuper: str = POSTSUPER) -> None:
        self._spool = spool
        self._memory = memory
        self._config = config
        self._postsuper = postsuper
        self._runs = Runs(2)

    def waiting(self) -> QueueFacts:
        """Count. Blocks as a look into a directory does; raises OSError where the queue cannot be read."""
        ours, held = self._remembered(), self._ids(HELD)
        moving, deferred = self._ids("incoming") | self._ids("active"), self._ids("deferred")
        return QueueFacts(len(moving), len(deferred - moving), len(held & ours), len(held - ours))

    async def hold(self, *, deadline_ms: int) -> Result:
        """Hold all that Postfix would deliver. SUCCEEDED when nothing is left that it could, but for a new arrival."""
        held: set[str] = set()
        try:
            for _ in range(LOOKS):
                live = set().union(*(self._ids(queue) for queue in LIVE))
                if not live:
                    ours = self._remembered()
                    if not ours <= (kept := ours & self._ids(HELD)):
                        self._remember(kept)  # it was delivered before it could be held
                    held &= kept
                    return Result(Outcome.SUCCEEDED, reason=f"{len(held)} messages held" if held else "")
                self._remember(live | (self._remembered() & self._ids(HELD)))
                result = await self._run("-h", live, deadline_ms // LOOKS)
                if result.outcome is not Outcome.SUCCEEDED:
                    return result
                held |= live
        except OSError as error:
            return _unreadable(error)
        return Result(
            Outcome.FAILED, "QUEUE_FAILED", f"messages still come into {self._spool}: {len(held)} held so far"
        )

    def drain(self, *, deadline_ms: int) -> Result:
        """Wait until nothing is being delivered. Blocks; an empty queue costs one look. What was put off is no matter.

        FAILED at the deadline, with how much is left: it is handed on later.
        """
        end, began = time.monotonic() + deadline_ms / 1000, None
        try:
            while moving := len(self._ids("incoming") | self._ids("active")):
                began = moving if began is None else began
                if time.monotonic() + POLL_S > end:
                    text = f"{moving} messages were still being delivered after {deadline_ms} ms"
                    return Result(Outcome.FAILED, "QUEUE_NOT_EMPTY", text)
                time.sleep(POLL_S)
        except OSError as error:
            return _unreadable(error)
        return Result(
            Outcome.SUCCEEDED, reason=f"{began} messages were being delivered, and were waited for" if began else ""
        )

    def held(self) -> set[str]:
        """The ids of what this node has held, and is."""
        return self._remembered() & self._ids(HELD)

    def path(self, one: str) -> Path:
        """Where a held message lies. Raises FileNotFoundError when it is in the queue no more."""
        for found in (self._spool / HELD).rglob(one):
            return found
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._spool / HELD / one))

    async def delete(self, one: str, *, deadline_ms: int) -> Result:
        """Remove a message for good: somebody else has it."""
        result = await self._run("-d", {one}, deadline_ms)
        if result.outcome is Outcome.SUCCEEDED and one in self._ids(HELD):
            return Result(Outcome.FAILED, "QUEUE_FAILED", f"{one} is still there although it was deleted")
        return result

    async def release(self, only: set[str] | None = None, *, deadline_ms: int) -> Result:
        """Give back to Postfix what this node has held (of it, `only` these), and nothing else."""
        try:
            ours = self._remembered() & self._ids(HELD)
            ours = ours if only is None else ours & only
            if ours:
                result = await self._run("-H", ours, deadline_ms)
                if result.outcome is not Outcome.SUCCEEDED:
                    return result
            left = ours & self._ids(HELD)
            if remembered := self._remembered():
                self._remember((remembered - ours) & self._ids(HELD) | left)
        except OSError as error:
            return _unreadable(error)
        if left:
            return Result(Outcome.FAILED, "QUEUE_FAILED", f"{len(left)} of {len(ours)} messages are still held")
        return Result(Outcome.SUCCEEDED, reason=f"{len(ours)} messages released" if ours else "")

    def _ids(self, queue: str) -> set[str]:
        """The messages of a queue, hashed into directories of one character or not. A file's name is its id."""
        found: set[str] = set()
        directories = [os.fspath(self._spool / queue)]
        while directories:
            try:
                with os.scandir(directories.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            directories.append(entry.path)
                        elif entry.name.isalnum() and _accepted(entry):
                            found.add(entry.name)
            except FileNotFoundError:
                if not (self._spool / queue).is_dir():  # no Postfix here, which is no empty queue
                    raise
        return found

    def _remembered(self) -> set[str]:
        try:
            value = json.loads(self._memory.read_bytes())
        except FileNotFoundError:
            return set()
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, list) or not all(isinstance(one, str) and one.isalnum() for one in value):
            # Taken for empty, what this node has held would stay held for ever.
            raise OSError(errno.EBADMSG, "is damaged", str(self._memory))
        return set(value)

    def _remember(self, ids: set[str]) -> None:
        """On disk before anything is held: what is held and not written down would be held for ever."""
        new = self._memory.with_suffix(".new")
        with new.open("w", encoding="ascii") as file:
            json.dump(sorted(ids), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._memory)
        sync_directory(self._memory.parent)

    async def _run(self, option: str, ids: set[str], deadline_ms: int) -> Result:
        text = "".join(f"{one}\n" for one in sorted(ids)).encode()
        ended = await self._runs.run(
            self._postsuper, text, arguments=("-c", self._config, option, "-"), deadline_ms=deadline_ms
        )
        words = " ".join(ended.output.decode(errors="replace").split())[-200:]
        if ended.error:
            return Result(Outcome.FAILED, "QUEUE_NO_TOOLS", f"{self._postsuper}: {ended.error}")
        if ended.code is None:
            return Result(Outcome.UNKNOWN, "QUEUE_TIMEOUT", f"postsuper {option} took over {deadline_ms} ms: {words}")
        if ended.code != 0:
            return Result(Outcome.FAILED, "QUEUE_FAILED", f"postsuper {option}: exit {ended.code}: {words}")
        return Result(Outcome.SUCCEEDED)


def _unreadable(error: OSError) -> Result:
    return Result(Outcome.FAILED, "QUEUE_FAILED", f"{error.filename}: {error.strerror}")


def _accepted(entry: os.DirEntry[str]) -> bool:
    """Whether a queue file is a message that was accepted.

    Its owner may not execute it before its sender has come to the end of it, as a client that was cut off never does.
    Postfix looks for the same bit (mail_open_ok), and postsuper would leave it where it is.
    """
    try:
        return bool(entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR)
    except FileNotFoundError:
        return False  # it has just gone to the next queue, or out of all of them
