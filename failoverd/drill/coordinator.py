"""One drill from its first question to its report: the phases in their order, each with its gate and its limit.

    preflight ── backup ── baseline ── inject ── observe ── load ── recover ── rejoin ── consistency ── report
                             └──────── the generator runs ────────┘
        anything fails, somebody aborts ──> unwind: the fault away, all home, then the report all the same

Beside the phases run the lock's renewal, the look at real clients, and the ceiling on the load; the first of them that
fails ends the phase. Whatever ends this process itself: see recover.py, and the agents' own lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from failoverd.drill import DrillError, accounts, power, preflight
from failoverd.drill.collecting import Collector
from failoverd.drill.generator import Generator, plan_of
from failoverd.drill.holding import Holding
from failoverd.drill.model import BackupDone, PhaseName
from failoverd.drill.scenarios import SCENARIOS
from failoverd.drill.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from datetime import datetime

    from failoverd.config import Config
    from failoverd.drill.book import Book
    from failoverd.drill.calls import Agents
    from failoverd.drill.local import LocalDaemon
    from failoverd.drill.model import Cast, Fault, NodeFacts, Outcome
    from failoverd.drill.preflight import Why
    from failoverd.drill.scenarios.scenario import Scenario
    from failoverd.runtime.document import StatusDocument

LOOK_S = 0.5
FIT_S = 60  # a replica's lag has its moments under load
CALM_S = 20  # that a role which has to stay has to stay for, at least
LIMITS_S = {  # of each phase, beside what the configuration asks for
    PhaseName.PREFLIGHT: 60,
    PhaseName.BACKUP: 0,
    PhaseName.BASELINE: 60,
    PhaseName.INJECT: 120,
    PhaseName.OBSERVE: 180,
    PhaseName.LOAD: 60,
    PhaseName.RECOVER: 360,
    PhaseName.REJOIN: 3600,
    PhaseName.CONSISTENCY: 6 * 3600,
    PhaseName.REPORT: 300,
}
TIMEOUTS = {  # what it means that a phase is not done in time; any other: DRILL_PHASE_TIMEOUT
    PhaseName.BACKUP: "DRILL_BACKUP_FAILED",
    PhaseName.BASELINE: "DRILL_LOAD_FAILED",
    PhaseName.INJECT: "DRILL_INJECT_FAILED",
    PhaseName.OBSERVE: "DRILL_NOT_SEEN",
    PhaseName.RECOVER: "DRILL_UNDO_FAILED",
    PhaseName.REJOIN: "DRILL_NOT_HOME",
}
UNWIND_S = 30


@dataclass(frozen=True, slots=True)
class Stage:
    """What a coordinator works with."""

    config: Config
    book: Book
    agents: Agents
    daemon: LocalDaemon
    now: Callable[[], datetime]


class Coordinator:
    """One drill. `run` ends in every case with a verdict in the book."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._config, self._book = stage.config, stage.book
        self._agents, self._daemon = stage.agents, stage.daemon
        self._asked = stage.book.drill.asked
        self._found = Collector(stage.config, stage.book, stage.agents, stage.daemon)
        self._generator: Generator | None = None
        self._holding: Holding | None = None
        self._watcher: Watcher | None = None
        self._beside: set[asyncio.Task[None]] = set()
        self._cast_: Cast | None = None
        self._waits = ""  # what the phase under way still waits for
        self._conducting: asyncio.Task[Any] | None = None  # while it can be aborted
        self._clean = False

    @property
    def _scenario(self) -> Scenario:
        return SCENARIOS[self._asked.scenario]  # preflight refuses what is none

    @property
    def _cast(self) -> Cast:
        assert self._cast_ is not None  # noqa: S101 - preflight comes first
        return self._cast_

    # ---- the whole --------------------------------------------------------------------------------------------------

    async def run(self) -> Outcome:
        """Do all of it; return how it ended."""
        self._conducting = asyncio.current_task()
        phases: tuple[tuple[PhaseName, float, Callable[[], Coroutine[Any, Any, None]]], ...] = (
            (PhaseName.PREFLIGHT, 0, self._preflight),
            (PhaseName.BACKUP, self._config.drill.backup.limit_ms / 1000 * 2, self._backup),
            (PhaseName.BASELINE, self._config.drill.load.ramp_ms / 1000 + self._baseline_s, self._baseline),
            (PhaseName.INJECT, 0, self._inject),
            (PhaseName.OBSERVE, 0, self._observe),
            (PhaseName.LOAD, self._asked.duration_s, self._load),
            (PhaseName.RECOVER, 0, self._recover),
            (PhaseName.REJOIN, 0, self._rejoin),
            (PhaseName.CONSISTENCY, 0, self._consistency),
        )
        try:
            try:
                for name, more_s, work in phases:
                    await self._phase(name, LIMITS_S[name] + more_s, work)
            finally:
                self._book.leniently()
        except DrillError as error:
            begun = any(phase.name is not PhaseName.PREFLIGHT for phase in self._book.drill.phases)
            self._book.end("failed", error.code, error.reason)
            self._book.conclude("failed" if begun else "skipped", error.code, error.reason)
        except asyncio.CancelledError:
            self._book.end("aborted", "DRILL_ABORTED", "somebody ended it")
            self._book.conclude("aborted", "DRILL_ABORTED", "somebody ended it")
        except Exception as error:  # noqa: BLE001 - it is told with its place, and nothing may stay broken for it
            reason = f"{error.__class__.__name__}: {str(error).partition(chr(10))[0]}"
            self._book.end("failed", "DRILL_BUG", reason)
            self._book.conclude("failed", "DRILL_BUG", reason)
            self._book.note("".join(traceback.format_exception(error)), "DRILL_BUG")
        self._conducting = None
        await self._unwind()
        self._found.judge()
        try:
            await self._phase(PhaseName.REPORT, LIMITS_S[PhaseName.REPORT], self._report)
        except DrillError as error:  # it is here; a node has not taken it in time
            self._book.end("failed", error.code, error.reason)
            self._book.note(f"the report is not on every node: {error.reason}", error.code)
        if self._clean:
            self._book.close()
        return self._book.drill.outcome

    def abort(self) -> None:
        """Somebody ends it: everything is taken back. That itself is not broken off, nor is the report."""
        if self._conducting is not None:
            self._conducting.cancel()

    async def _phase(self, name: PhaseName, limit_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._book.begin(name)
        self._waits = ""
        doing = asyncio.ensure_future(work())
        until = asyncio.get_running_loop().time() + limit_s
        try:
            while not doing.done():
                left_s = until - asyncio.get_running_loop().time()
                ended, _ = await asyncio.wait(
                    {doing, *self._beside}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not ended:
                    why = f"{name}: not done within {limit_s:.0f} s" + (f": {self._waits}" if self._waits else "")
                    raise DrillError(TIMEOUTS.get(name, "DRILL_PHASE_TIMEOUT"), why)
                for task in ended:
                    if task is doing or not task.cancelled():  # what runs beside is ended by the phase that has no use
                        task.result()
        finally:
            doing.cancel()
            with contextlib.suppress(asyncio.CancelledError, DrillError):
                await doing
        self._book.end("passed")

    def _beside_of(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside the phases. It never ends well: how it ends is how the phase ends."""
        self._beside.add(asyncio.ensure_future(work))

    async def _end_beside(self) -> None:
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        self._beside.clear()

    # ---- phases -----------------------------------------------------------------------------------------------------

    async def _preflight(self) -> None:
        whys = preflight.early(self._config, self._asked, self._stage.now())
        if self._asked.scenario not in SCENARIOS:
            _refuse(whys)
        status, check = await self._daemon.status(), await self._daemon.check()
        cast = preflight.cast_of(self._config, self._asked, status)
        whys += preflight.refusals(self._config, self._asked, cast, status, check)
        if cast is None:
            _refuse(whys)
        assert cast is not None  # noqa: S101 - its absence is a refusal
        nodes = (*cast.data_nodes, *cast.arbiters)
        facts, silent = await self._facts(nodes)
        _refuse([*whys, *silent, *preflight.of_facts(self._config, self._asked, cast, facts)])
        simulated = len(accounts.read(self._config.drill.load.accounts)) if self._asked.users else 0
        for code, reason in preflight.warnings(self._asked, facts, accounts=simulated):
            self._book.note(reason, code)
        holding = Holding(self._agents, nodes, self._asked.id, self._asked.by, cast.coordinator)
        await holding.take()
        self._holding, self._cast_ = holding, cast  # only now there is something to give back
        self._book.cast(cast)
        self._beside_of(holding.keep())
        self._found.software = {node: known.software for node, known in facts.items()}
        self._book.found(primary=cast.primary, heir=cast.heir, target=cast.target or "nobody", term=cast.term)

    async def _facts(self, nodes: Sequence[str]) -> tuple[dict[str, NodeFacts], list[Why]]:
        """What each node says of itself, and why others do not."""
        answers = await asyncio.gather(*(self._agents.facts(node) for node in nodes), return_exceptions=True)
        facts, silent = {}, []
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, DrillError):
                silent.append((answer.code, answer.reason))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                facts[node] = answer
        return facts, silent

    async def _backup(self) -> None:
        if self._asked.backup == "none":
            self._book.found(made=False)
            return
        node = preflight.backup_node(self._cast)
        arguments = {"drill": self._asked.id, "kind": self._asked.backup}
        job = await self._agents.start(node, self._asked.id, "backup", arguments)
        done = await job.result(BackupDone, self._book.note)
        self._found.backup = done
        self._book.found(node=node, kind=done.kind, bytes=done.bytes, sha256=done.sha256, tables=done.tables)

    @property
    def _baseline_s(self) -> float:
        """How long what is normal is looked at: enough to compare with, and no more than that."""
        return float(min(max(self._asked.duration_s / 10, 10), 120))

    async def _baseline(self) -> None:
        if self._asked.users == 0:
            self._book.found(users=0)
            return
        plan = plan_of(self._config, self._asked, self._book.place)
        self._generator = Generator(plan, self._book, self._found)
        await self._generator.start()
        self._watcher = Watcher(self._config, self._daemon, self._generator, self._found, wanted=self._asked.users)
        self._beside_of(self._generator.runs())
        self._beside_of(self._watcher.watch())
        self._beside_of(self._found.count(self._cast))
        await self._generator.until_users(self._config.drill.load.ramp_ms / 1000 + LIMITS_S[PhaseName.BASELINE])
        await asyncio.sleep(self._baseline_s)
        self._book.found(users=self._asked.users, sessions=self._generator.sessions)

    async def _inject(self) -> None:
        await self._until_fit()
        await self._stage_of("fault")
        if self._scenario.by == "switchover":
            self._book.found(injected_ms=self._book.now_ms())
            words = f"drill {self._asked.id}, begun by {self._asked.by}"
            await self._daemon.promote(self._cast.heir, words)
            self._book.found(asked=f"{self._cast.heir} shall be primary")
            return
        fault = self._scenario.fault(self._config, self._cast)
        assert fault is not None  # noqa: S101 - only a switchover breaks nothing
        assert self._holding is not None  # noqa: S101 - preflight comes first
        self._holding.excuse(self._cast.target)
        self._book.fault(fault)
        self._book.found(injected_ms=self._book.now_ms())
        await self._agents.inject(fault.node, self._asked.id, self._scenario.name, self._cast)
        self._book.found(fault=fault.words)
        if fault.limit_s < self._asked.duration_s:
            self._book.note(f"{fault.words}: ends by itself after {fault.limit_s} s, which is before the load does")

    async def _until_fit(self) -> None:
        """See that all is still as preflight wants it. Raises DrillError: nothing is broken that is not whole."""
        until = asyncio.get_running_loop().time() + FIT_S
        while True:
            status, check = await self._daemon.status(), await self._daemon.check()
            _refuse(preflight.too_late(self._config, self._asked, self._cast, status, self._stage.now()))
            whys = preflight.refusals(self._config, self._asked, self._cast, status, check)
            if not whys:
                return
            if asyncio.get_running_loop().time() > until:
                _refuse(whys)
            await asyncio.sleep(LOOK_S)

    async def _observe(self) -> None:
        if self._scenario.moves is None:  # as expected is what it also is before the fault is felt
            await self._until(self._is_felt)
        moved = await self._until(self._as_expected)
        self._book.found(primary=moved)
        if self._generator is not None:  # who waits for the old one still belongs to the fault
            self._waits = "people of the load wait for answers"
            await self._generator.until_answered()
        if self._scenario.moves is False:
            await asyncio.sleep(CALM_S)
            status = await self._daemon.status()
            if status.holder != self._cast.primary or status.term != self._cast.term:
                reason = f"{status.holder} is primary in term {status.term}: the role had to stay"
                raise DrillError("DRILL_WRONG_END", reason)

    async def _is_felt(self, status: StatusDocument) -> str:
        """What the fault has done, once the cluster has noticed it; "" before."""
        self._waits = "the cluster has not noticed the fault"
        if status.term != self._cast.term:
            return "the role has moved"
        return "" if await self._as_expected(status) else "clients are not served"

    async def _as_expected(self, status: StatusDocument) -> str:
        """Who serves, once that is as the scenario wants; "" before. Raises DrillError where it never will be."""
        holder, moved = status.holder, status.term != self._cast.term
        if status.lease.state not in {"held", "unknown"} or holder is None:
            return ""
        if self._scenario.moves is True and not moved:
            return ""
        if self._scenario.moves is True and holder == self._cast.primary:
            raise DrillError("DRILL_WRONG_END", f"{holder} is primary again: the role had to move")
        node = next(node for node in status.nodes if node.name == holder)
        up = bool(node.services) and all(service.verdict == "up" for service in node.services.values())
        return holder if up and node.serving and node.vip is not None and node.vip.present else ""

    async def _load(self) -> None:
        await self._stage_of("load")
        if self._asked.users:
            await asyncio.sleep(self._asked.duration_s)

    async def _recover(self) -> None:
        fault = self._book.drill.fault
        if fault is not None:
            await self._take_away(fault)
            self._book.note(f"{fault.words}: taken away")
            self._book.fault(None)
        if self._holding is not None and self._cast.target:
            await self._until_agent(self._cast.target)
            await self._holding.expect(self._cast.target)

    async def _rejoin(self) -> None:
        await self._daemon.acknowledge(f"drill {self._asked.id}, begun by {self._asked.by}")
        await self._until(self._all_home)

    async def _all_home(self, status: StatusDocument) -> str:
        whys = preflight.unwell(self._config, status, await self._daemon.check())
        self._waits = preflight.in_words(whys)
        if whys and self._cast.target in {node.name for node in status.nodes if not node.fresh}:
            await self._powered(self._cast.target)  # the cluster may have fenced it after its fault was gone
        return "" if whys else str(status.holder)

    async def _consistency(self) -> None:
        if self._generator is not None:
            await self._end_load()
        await self._found.compare(self._cast)

    async def _report(self) -> None:
        await self._found.write(self._cast_, clean=self._clean)

    # ---- the way back -----------------------------------------------------------------------------------------------

    async def _unwind(self) -> None:
        """Leave nothing behind, whatever has failed: each part is tried, and what fails of it is noted.

        The fault goes first. The lock is kept until all is done, and given back by nobody who still renews it.
        """
        await self._end_beside_but_lock()
        fault = self._book.drill.fault
        if fault is not None:
            await self._tried(self._take_away_in_time(fault))
        await self._tried(self._end_load())
        if self._holding is None:
            self._clean = True
            return
        await self._tried(self._found.gather(self._cast_))
        await self._tried(self._found.clean(self._cast_))
        if self._book.drill.outcome != "under-way" and self._book.injected:
            await self._tried(self._until_home())
        await self._end_beside()
        self._clean = await self._holding.release(self._left, within_s=UNWIND_S)
        if self._clean:
            self._book.fault(None)

    async def _take_away(self, fault: Fault) -> None:
        """Take it away; a node that does not answer is asked again, and has power: the cluster may have fenced it."""
        while True:
            try:
                await self._agents.undo(fault.node, self._asked.id)
            except DrillError as error:
                if error.code != "DRILL_NO_AGENT":
                    raise
                self._waits = error.reason
                await self._powered(fault.node)
            else:
                return
            await asyncio.sleep(LOOK_S)

    async def _powered(self, node: str) -> None:
        if await power.given_back(self._config, node):
            self._book.note(f"{node} had been switched off by its fence agent: it has power again")

    async def _take_away_in_time(self, fault: Fault) -> None:
        try:
            async with asyncio.timeout(LIMITS_S[PhaseName.RECOVER]):
                await self._take_away(fault)
        except TimeoutError:
            raise DrillError("DRILL_UNDO_FAILED", f"{fault.words}: {self._waits}") from None

    async def _until_home(self) -> None:
        try:
            async with asyncio.timeout(LIMITS_S[PhaseName.REJOIN]):
                await self._rejoin()
        except TimeoutError:
            raise DrillError("DRILL_NOT_HOME", self._waits) from None

    def _left(self, code: str, reason: str) -> None:
        self._book.note(f"something of the drill may be left: {reason}", code)
        self._book.conclude("failed", code, reason)

    async def _tried(self, part: Awaitable[None]) -> None:
        try:
            await part
        except DrillError as error:
            self._book.note(f"while everything was taken back: {error.reason}", error.code)
            self._book.conclude("failed", error.code, error.reason)

    async def _end_load(self) -> None:
        if self._generator is not None:
            generator, self._generator = self._generator, None
            await self._end_beside_but_lock()
            self._found.load = await generator.stop()

    async def _end_beside_but_lock(self) -> None:
        await self._end_beside()
        if self._holding is not None:
            self._beside_of(self._holding.keep())

    # ---- waiting ----------------------------------------------------------------------------------------------------

    async def _stage_of(self, name: str) -> None:
        if self._generator is not None:
            await self._generator.stage(name)

    async def _until(self, right: Callable[[StatusDocument], Awaitable[str]]) -> str:
        """Look again and again until `right` says something. The phase's limit ends it."""
        while True:
            try:
                status = await self._daemon.status()
            except DrillError as error:  # it may be busy with what we wait for; the limit counts
                self._waits = error.reason
            else:
                self._found.saw(status)
                found = await right(status)
                if found:
                    return found
            await asyncio.sleep(LOOK_S)

    async def _until_agent(self, node: str) -> None:
        while True:
            try:
                await self._agents.facts(node)
            except DrillError as error:
                if error.code != "DRILL_NO_AGENT":
                    raise
                self._waits = error.reason
                await asyncio.sleep(LOOK_S)
            else:
                return


def _refuse(whys: Sequence[Why]) -> None:
    if whys:
        raise DrillError(whys[0][0], preflight.in_words(whys))
