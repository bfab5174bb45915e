"""`failoverd drill-load`: reads the plan and orders from stdin, says each second to stdout. See load/__init__.py.

It ends within five seconds of `{"stop": true}`, of the end of its input, of SIGTERM, and of nobody listening any more.
Exit code: 0 told to end, 1 could not begin or go on, 2 no plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, get_args

from failoverd.drill import DrillError, accounts, model
from failoverd.drill.load.load import Load
from failoverd.drill.model import LoadPlan, Second, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.drill.model import LoadDone, LoadNow

STAGES: tuple[Stage, ...] = get_args(Stage)
LONGEST_ORDER = 1 << 20
MOST_USERS = 100_000
LAST_WORDS_S = 1.0  # for a listener that does not listen


def main() -> int:
    """Entry point."""
    gc.freeze()  # what is loaded stays: it need not be looked through again and again
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each person holds one
    try:
        return asyncio.run(_main())
    except (DrillError, OSError) as error:
        sys.stderr.write(f"failoverd drill-load: {getattr(error, 'reason', None) or error}\n")
        return 1
    except OrderError as error:
        sys.stderr.write(f"failoverd drill-load: {error}\n")
        return 2


class OrderError(Exception):
    """What was said on stdin is no plan, or no order."""


async def _main() -> int:
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[bytes] = asyncio.Queue()
    # Of a thread: what comes may be a file as well as a pipe. It waits in read(2), with no lock that an end waits for.
    threading.Thread(target=_read, args=(loop, orders), daemon=True).start()
    line = await orders.get()
    if not line:
        raise OrderError("no plan on stdin")
    plan = _plan(line)
    speaker = Speaker(lambda: loop.call_soon_threadsafe(load.stop))
    load = Load(
        plan,
        accounts.read(Path(plan.accounts_file)),
        lambda told: speaker.say("second" if isinstance(told, Second) else "now", told),
        epoch_s=time.time() - loop.time(),
        rng=random.Random(),  # noqa: S311 - people, not keys
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, load.stop)
    obeying = asyncio.ensure_future(_obey(orders, load))
    try:
        speaker.say("done", await load.run())
    finally:
        speaker.end()
        obeying.cancel()
    if obeying.done() and not obeying.cancelled():
        obeying.result()
    return 0


def _plan(line: bytes) -> LoadPlan:
    """Read the first line. Raises OrderError."""
    order = _json(line)
    if not isinstance(order, dict) or set(order) != {"plan"}:
        raise OrderError('the first line is not {"plan": {…}}')
    try:
        return model.load(LoadPlan, json.dumps(order["plan"]))
    except ValueError as error:
        raise OrderError(str(error)) from None


def _json(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise OrderError(f"no JSON: {error}") from None


async def _obey(orders: asyncio.Queue[bytes], load: Load) -> None:
    """Do what is said until it ends. Raises OrderError; the load is told to stop in any case."""
    try:
        while line := await orders.get():
            match _json(line):
                case {"users": int(number)} if 0 <= number <= MOST_USERS:
                    load.users(number)
                case {"stage": str(name)} if name in STAGES:
                    load.stage(next(stage for stage in STAGES if stage == name))
                case {"stop": True}:
                    return
                case _:
                    raise OrderError(f"no order: {line[:200]!r}")
    finally:
        load.stop()


def _read(loop: asyncio.AbstractEventLoop, orders: asyncio.Queue[bytes]) -> None:
    """Pass on each line, and b"" at the end."""
    rest = b""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        while len(rest) < LONGEST_ORDER and (data := os.read(0, 65536)):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    loop.call_soon_threadsafe(orders.put_nowait, line)
        loop.call_soon_threadsafe(orders.put_nowait, b"")


class Speaker:
    """Says things on stdout, in a thread: who listens slowly is no reason to be late."""

    def __init__(self, gone: Callable[[], object]) -> None:
        self._gone = gone
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    def say(self, what: str, value: Second | LoadNow | LoadDone) -> None:
        """Say one."""
        self._lines.put(b'{"%s":%s}\n' % (what.encode(), model.dump(value)))

    def end(self) -> None:
        """Have said all, as far as anybody listens."""
        self._lines.put(b"")
        self._thread.join(LAST_WORDS_S)

    def _speak(self) -> None:
        try:
            while line := self._lines.get():
                while line:
                    line = line[os.write(1, line) :]
        except OSError:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._gone()
