"""What an agent runs for a drill: each job is a process of its own, which can be ended and takes nothing with it.

    failoverd drill-job KIND   stdin   the arguments, one line of JSON; then whatever it is told later, a line each
                               stdout  {"progress": {…}} …, and as the last line {"done": {…}} or {"failed": {…}}

A job that ends without its last word has failed. Its lines are kept for whoever asks, whenever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from failoverd.drill.model import Command

KINDS = ("backup", "tables", "mailboxes", "counters", "audit", "clean")
LINE_BYTES = 64 << 20  # the sums of every table and mailbox of a large site
TERM_S = 10.0
PULSE_S = 1.0
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


class Job:
    """One process and what it has said."""

    def __init__(self, drill: str, kind: str) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.drill, self.kind = drill, kind
        self.lines: list[bytes] = []
        self.ended = False
        self._more = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, program: Command, arguments: dict[str, Any]) -> None:
        """Start it. Raises OSError."""
        self._process = await asyncio.create_subprocess_exec(
            *program,
            "drill-job",
            self.kind,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            limit=LINE_BYTES,
            start_new_session=True,
        )
        await self.tell(arguments)
        self._task = asyncio.ensure_future(self._listen(self._process))

    async def tell(self, message: dict[str, Any]) -> None:
        """Give it one more line. One that has ended hears nothing."""
        assert self._process is not None  # noqa: S101 - start comes first
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        last = b""
        try:
            while line := await process.stdout.readline():
                last = line.strip()
                self._say(last)
        except ValueError:  # a line longer than any that is meant
            self._signal(signal.SIGKILL)
        code = await process.wait()
        if not last.startswith((b'{"done"', b'{"failed"')):
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._say(
                json.dumps({"failed": {"code": "", "reason": f"{self.kind} ended without a word: {how}"}}).encode()
            )
        self.ended = True
        self._more.set()

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
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(TERM_S):
                await asyncio.shield(self._task)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._task

    def _signal(self, number: signal.Signals) -> None:
        """To its whole group, which is its own."""
        assert self._process is not None  # noqa: S101 - called once it runs
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
