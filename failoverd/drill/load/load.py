"""All of the load together: people come and go, operations and beats begin by the clock, seconds are told."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.drill.load import histogram
from failoverd.drill.load.beats import Gaps, beat_imap, beat_smtp
from failoverd.drill.load.ledger import Ledger
from failoverd.drill.load.messages import Messages
from failoverd.drill.load.pacing import Kind, Pacer, Ramp
from failoverd.drill.load.seconds import Seconds
from failoverd.drill.load.service import Account, Logins, services
from failoverd.drill.load.users import User, World
from failoverd.drill.model import PROTOCOLS, LoadDone, LoadNow
from failoverd.drill.report.measured import percentile

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from failoverd.drill.load.answers import Outcome
    from failoverd.drill.model import LoadPlan, Protocol, Second, Stage

TICK_S = 0.01
TELL_S = 0.1
NOW_S = 1.0
LONGEST_WAIT_S = 0.1
END_S = 3.0  # for what is under way to come to its end, of the five seconds that all of it may take


class Load:
    """One run. `epoch_s` added to the loop's time is CLOCK_REALTIME. Made on the loop.

    Raises DrillError where there is no place for the ledger, OSError where there is no CA.
    """

    def __init__(
        self,
        plan: LoadPlan,
        accounts: Mapping[str, str],
        tell: Callable[[Second | LoadNow], None],
        *,
        epoch_s: float,
        rng: random.Random,
    ) -> None:
        self._plan, self._tell = plan, tell
        self._loop = asyncio.get_running_loop()
        began_s = self._loop.time()
        imap, smtp = services(plan)
        self._logins = Logins()
        self._ledger = Ledger(Path(plan.directory))
        self._world = World(
            imap=imap,
            smtp=smtp,
            accounts=[Account(name=name, password=password) for name, password in accounts.items()],
            messages=Messages(plan.drill, rng),
            ledger=self._ledger,
            rng=rng,
            deadline_s=plan.deadline_s,
            epoch_s=epoch_s,
            logins=self._logins,
        )
        rates: dict[Kind, float] = {"append": plan.appends, "fetch": plan.fetches, "submit": plan.submits}
        self._pacer: Pacer[User] = Pacer(rates, rng)
        self._ramp = Ramp(max(plan.users, 1) / max(plan.ramp_s, 1))
        self._ramp.aim(plan.users, began_s)
        self._wanted = plan.users
        self._seconds = Seconds(epoch_s, plan.deadline_s, began_s)
        self._gaps = {protocol: Gaps(protocol, epoch_s, began_s) for protocol in PROTOCOLS}
        self._users: list[User] = []  # who is meant to be there
        self._staying: set[User] = set()  # with those who are about to leave
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: dict[str, int] = {}
        self._late_max_s = 0.0
        self._most_sessions = 0
        self._stopped = asyncio.Event()

    # ---- orders ------------------------------------------------------------------------------------------------------

    def users(self, number: int) -> None:
        """So many from now on."""
        self._wanted = number
        self._ramp.aim(number, self._loop.time())

    def stage(self, name: Stage) -> None:
        """What comes now counts as of this stage."""
        self._seconds.stage(name, self._loop.time())

    def stop(self) -> None:
        """Come to an end."""
        self._stopped.set()

    # ---- the run -----------------------------------------------------------------------------------------------------

    async def run(self) -> LoadDone:
        """Go on until told to stop. Raises DrillError where the ledger cannot be written."""
        beginning = [asyncio.ensure_future(self._pace())]
        if self._plan.beats_per_s > 0:
            beginning.append(asyncio.ensure_future(self._beats()))
        noting = asyncio.ensure_future(self._ticks())
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait({stopped, *beginning, noting}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        ended_s = self._loop.time()
        for task in beginning:
            task.cancel()
        for user in self._users:
            user.leave()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_S)
        for task in (*self._tasks, noting):
            task.cancel()
        ends = await asyncio.gather(*self._tasks, *beginning, noting, return_exceptions=True)
        self._note_seconds()
        for second in self._seconds.rest():
            self._tell(second)
        self._ledger.close()
        for end in ends:
            if isinstance(end, Exception):  # no server's doing: those are dealt with where they occur
                raise end
        return self._done(ended_s)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.stop()  # it stays among the tasks, and `run` raises what it has
        else:
            self._tasks.discard(task)

    async def _pace(self) -> None:
        """People, and what they do."""
        while True:
            now_s = self._loop.time()
            self._people(now_s)
            for user, kind, at_s in self._pacer.due(now_s):
                self._was_late(now_s - at_s, now_s)
                operation = self._seconds.begin("smtp" if kind == "submit" else "imap", at_s)
                if kind == "submit":
                    self._begin(user.submit(operation))
                else:
                    user.do(kind, operation)
            next_s = self._pacer.next_s()
            until_s = now_s + LONGEST_WAIT_S if next_s is None else min(next_s, now_s + LONGEST_WAIT_S)
            await asyncio.sleep(max(0.0, until_s - self._loop.time()))

    def _people(self, now_s: float) -> None:
        number = self._ramp.at(now_s)
        while len(self._users) < number:
            # By place, so that all accounts are used alike however often people come and go.
            user = User(self._world, self._world.accounts[len(self._users) % len(self._world.accounts)])
            self._users.append(user)
            self._staying.add(user)
            self._pacer.join(user, now_s)
            self._begin(self._be(user))
        while len(self._users) > number:
            user = self._users.pop()
            self._pacer.leave(user)
            user.leave()

    async def _be(self, user: User) -> None:
        try:
            await user.run()
        finally:
            self._staying.discard(user)

    async def _beats(self) -> None:
        """Fresh logins, one protocol's half-way between the other's."""
        step_s = 1 / self._plan.beats_per_s / len(PROTOCOLS)
        began_s, number = self._loop.time(), 0
        while True:
            at_s = began_s + number * step_s
            await asyncio.sleep(max(0.0, at_s - self._loop.time()))
            now_s = self._loop.time()
            self._was_late(now_s - at_s, now_s)
            protocol = PROTOCOLS[number % len(PROTOCOLS)]
            account = self._world.accounts[number // len(PROTOCOLS) % len(self._world.accounts)]
            self._begin(self._beat(protocol, account, at_s))
            number += 1

    async def _beat(self, protocol: Protocol, account: Account, at_s: float) -> None:
        operation = self._seconds.begin(protocol, at_s, beat=True)
        outcome: Outcome = "failed"
        try:
            if protocol == "imap":
                good = await beat_imap(self._world.imap, account, at_s, self._logins)
            else:
                good = await beat_smtp(self._world.smtp, account, at_s)
            if good:
                outcome = "ok"
                self._gaps[protocol].good(self._loop.time())
            else:
                self._gaps[protocol].bad(at_s)
        finally:
            operation.end(outcome, self._loop.time())

    async def _ticks(self) -> None:
        """How late this process is with what depends on nobody else; and the seconds."""
        at_s = tell_s = now_s = self._loop.time()
        told_s = now_s - NOW_S
        while True:
            at_s = max(at_s + TICK_S, self._loop.time())
            await asyncio.sleep(at_s - self._loop.time())
            now_s = self._loop.time()
            self._was_late(now_s - at_s, now_s)
            if now_s >= tell_s:
                tell_s = now_s + TELL_S
                self._note_seconds()
            if now_s >= told_s + NOW_S:
                told_s = now_s
                self._tell(LoadNow(sessions=self._sessions(), users=self._wanted, overdue=self._seconds.overdue(now_s)))

    # ---- what is counted ---------------------------------------------------------------------------------------------

    def _note_seconds(self) -> None:
        for second in self._seconds.tell(self._loop.time(), self._sessions(), self._wanted):
            self._tell(second)

    def _sessions(self) -> int:
        sessions = sum(user.is_logged_in for user in self._staying)
        self._most_sessions = max(self._most_sessions, sessions)  # of all that was told of
        return sessions

    def _was_late(self, by_s: float, now_s: float) -> None:
        histogram.add(self._late, by_s * 1000)
        self._late_max_s = max(self._late_max_s, by_s)
        self._seconds.late(by_s, now_s)

    def _done(self, ended_s: float) -> LoadDone:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        gaps = (gap for protocol in PROTOCOLS for gap in self._gaps[protocol].until(ended_s))
        return LoadDone(
            logins=self._logins.done,
            submitted=self._ledger.counts["submit"],
            appended=self._ledger.counts["append"],
            logins_unknown=self._logins.unknown,
            submits_unknown=self._ledger.unknown["submit"],
            appends_unknown=self._ledger.unknown["append"],
            gaps=tuple(sorted(gaps, key=lambda gap: gap.from_ms)) if self._plan.beats_per_s > 0 else (),
            late_p50_ms=percentile(self._late, 50) or 0.0,
            late_p99_ms=percentile(self._late, 99) or 0.0,
            late_max_ms=round(self._late_max_s * 1000, 3),
            late=self._late,
            cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            rss_max_bytes=_rss_max(Path("/proc/self/status").read_text().splitlines()),
            most_sessions=self._most_sessions,
        )


def _rss_max(lines: list[str]) -> int:
    """Of this program alone: what getrusage tells has the one in it that has started it."""
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
