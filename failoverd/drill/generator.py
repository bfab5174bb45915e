"""The load's process, from the coordinator's side: started, told how many and which stage, listened to, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from failoverd.drill import DrillError, accounts, model
from failoverd.drill.model import LoadDone, LoadNow, LoadPlan, Second
from failoverd.rebuild.programs import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.drill.book import Book
    from failoverd.drill.collecting import Collector
    from failoverd.drill.model import Asked

LINE_BYTES = 1 << 20
SILENT_S = 15.0  # it says each second how many there are, whatever its operations wait for
END_S = 15.0
PROGRAM = (sys.executable, "-m", "failoverd", "drill-load")
CALM = 4  # words in a row, one a second: longer than an operation is open before it counts as overdue


def plan_of(config: Config, asked: Asked, place: Path) -> LoadPlan:
    """Return what the generator is told. Raises DrillError where there are no accounts, or no services for them."""
    imap, smtp, load = config.mail.imap, config.mail.smtp, config.drill.load
    accounts.read(load.accounts)
    if imap is None or smtp is None or imap.ca is None:
        raise DrillError("DRILL_LOAD_FAILED", "services has no imap, no smtp, or no ca: nobody can be simulated")
    return LoadPlan(
        drill=asked.id,
        address=config.vip.address,
        server_name=imap.server_name or config.vip.address,
        ca=str(imap.ca),
        imap_port=imap.port,
        imap_tls=imap.tls,
        smtp_port=load.port,
        smtp_tls=load.tls,
        smtp_server_name=smtp.server_name or "",
        smtp_ca=str(smtp.ca) if smtp.ca is not None else "",
        accounts_file=str(load.accounts),
        directory=str(place),
        users=asked.users,
        ramp_s=max(1, load.ramp_ms // 1000),
    )


class Generator:
    """One run of `program`, which may be silent for `silent_s` and has `end_s` to come to its end."""

    def __init__(
        self,
        plan: LoadPlan,
        book: Book,
        found: Collector,
        *,
        program: Sequence[str] = PROGRAM,
        silent_s: float = SILENT_S,
        end_s: float = END_S,
    ) -> None:
        self._plan, self._book, self._found = plan, book, found
        self._program, self._silent_s, self._end_s = program, silent_s, end_s
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._done: LoadDone | None = None
        self._heard = asyncio.Event()
        self.sessions = 0
        self._calm = 0  # how often in a row it has said that nobody waits
        self.users = plan.users

    async def start(self) -> None:
        """Start it. Raises DrillError."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=ENVIRONMENT,
                limit=LINE_BYTES,
                start_new_session=True,
            )
        except OSError as error:
            raise DrillError("DRILL_LOAD_FAILED", f"the generator does not start: {error.strerror}") from None
        await self._tell({"plan": json.loads(model.dump(self._plan))})
        self._listening = asyncio.ensure_future(self._listen(self._process))

    async def _tell(self, message: dict[str, Any]) -> None:
        assert self._process is not None  # noqa: S101 - start comes first
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(ConnectionError):  # it has ended: its silence is what is told
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def stage(self, name: str) -> None:
        """What comes now counts as of this stage."""
        await self._tell({"stage": name})

    async def limit(self, users: int) -> None:
        """Simulate so many from now on."""
        if users != self.users:
            self.users = users
            await self._tell({"users": users})

    async def until_users(self, within_s: float) -> None:
        """Wait until all wanted users have sessions. Raises DrillError."""
        try:
            async with asyncio.timeout(within_s):
                while self.sessions < self.users:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            words = f"{self.sessions} of {self.users} users are logged in after {within_s:.0f} s"
            raise DrillError("DRILL_LOAD_FAILED", words) from None

    async def until_answered(self) -> None:
        """Wait until nobody waits for an answer any more, and for long enough that what began meanwhile would show.

        A session to a server that hung goes on waiting when others are served again: until its own deadline. Who
        still waits after that is slow for another reason, and is counted as that.
        """
        self._calm = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.deadline_s + CALM):
                while self._calm < CALM:
                    self._heard.clear()
                    await self._heard.wait()

    async def runs(self) -> None:
        """Return never. Raises DrillError where it has ended, or is silent."""
        assert self._listening is not None  # noqa: S101 - start comes first
        while not self._listening.done():
            self._heard.clear()
            waiting = asyncio.ensure_future(self._heard.wait())
            await asyncio.wait({self._listening, waiting}, timeout=self._silent_s, return_when=asyncio.FIRST_COMPLETED)
            heard = waiting.done()
            waiting.cancel()
            if not heard and not self._listening.done():
                raise DrillError("DRILL_LOAD_FAILED", f"the generator is silent for {self._silent_s:.0f} s")
        await self._listening
        assert self._process is not None  # noqa: S101 - start comes first
        try:
            code = await asyncio.wait_for(self._process.wait(), self._silent_s)
        except TimeoutError:
            raise DrillError("DRILL_LOAD_FAILED", "the generator has closed its output, and goes on") from None
        raise DrillError("DRILL_LOAD_FAILED", f"the generator has ended by itself, with {code}: the journal says why")

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        try:
            # A last line without an end is not whole: it has died while it said it.
            while (line := await process.stdout.readline()).endswith(b"\n"):
                self._take(json.loads(line))
                self._heard.set()
                await asyncio.sleep(0)  # one that floods is no reason to let the drill's lock lapse
        except (ValueError, RecursionError) as error:  # a line that is too long, no JSON, or not of this shape
            words = str(error).splitlines()[0][:200]
            raise DrillError("DRILL_LOAD_FAILED", f"the generator says what is not understood: {words}") from None
        except OSError as error:
            words = f"what it says cannot be kept in {self._book.place}: {error.strerror}"
            raise DrillError("DRILL_LOAD_FAILED", words) from None

    def _take(self, said: object) -> None:
        match said:
            case {"now": told}:
                now = model.load(LoadNow, json.dumps(told))
                self.sessions = now.sessions
                self._calm = self._calm + 1 if not now.overdue else 0
            case {"second": told}:
                self._found.second(model.load(Second, json.dumps(told)))
            case {"done": told}:
                self._done = model.load(LoadDone, json.dumps(told))
            case _:
                raise ValueError(f"neither now, second nor done: {str(said)[:80]}")

    async def stop(self) -> LoadDone | None:
        """End it and return its last word, None where it gave none. Raises DrillError where it fails at its end.

        The process is gone in every case.
        """
        process, listening = self._process, self._listening
        if process is None or listening is None:
            return None
        await self._tell({"stop": True})
        try:
            async with asyncio.timeout(self._end_s):
                await asyncio.shield(listening)
                await process.wait()
        except TimeoutError:
            raise DrillError("DRILL_LOAD_FAILED", f"the generator did not end within {self._end_s:.0f} s") from None
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)  # what it has to say was said where it is awaited
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                assert process.stdout is not None  # noqa: S101 - it was asked for
                # asyncio's wait does not end before the pipe has: of one that floods, it is full.
                while await process.stdout.read(LINE_BYTES):
                    pass
                await process.wait()
        return self._done
