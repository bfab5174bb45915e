"""What the mail store's own program is asked and believed: real scripts, each way of ending, none outlives its call."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from failoverd.actions import CODES
from failoverd.actions.mailstore_hook import LONGEST_WORDS, StoreHook
from failoverd.core.effects import Step, StepKind
from failoverd.core.model import Health, NodeName, Outcome, Reading, StoreFacts
from failoverd.ports import Result, Target
from failoverd.probes.deadline import observe
from failoverd.probes.store import StoreProbe
from failoverd.runtime.clock import BootClock
from failoverd.runtime.drop import leave
from failoverd.runtime.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from failoverd.core.machine import StepEnded

REPOSITORY = Path(__file__).parents[2]
LONG_MS = 10_000  # for what ends by itself
SHORT_MS = 600  # for what does not


def hook(directory: Path, script: str) -> StoreHook:
    program = directory / "hook"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return StoreHook(str(program), cluster="mail", me=NodeName("mail2"))


def take(store: StoreHook, deadline_ms: int = LONG_MS) -> Result:
    result = asyncio.run(store.take(term=7, previous=NodeName("mail1"), deadline_ms=deadline_ms))
    assert (result.outcome is Outcome.SUCCEEDED) == (not result.code)
    assert not result.code or result.code in CODES
    return result


def gone(pid: int) -> bool:
    """Whether the process is gone, or a zombie that only its new parent can reap."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - a line of /proc
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_is_asked_in_json_and_sees_nothing_of_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    store = hook(tmp_path, f'cat > "{tmp_path}/asked.$$"; env > "{tmp_path}/env"; echo "$#" > "{tmp_path}/arguments"')
    assert take(store).outcome is Outcome.SUCCEEDED
    assert asyncio.run(store.release(term=7, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert asyncio.run(store.look(deadline_ms=LONG_MS)) == Reading(Health.OK, facts=StoreFacts(None))
    asked = {(one := json.loads(path.read_text()))["ask"]: one for path in tmp_path.glob("asked.*")}
    common = {"cluster": "mail", "node": "mail2"}
    assert asked == {
        "take": {"ask": "take", "term": 7, "previous": "mail1", **common},
        "release": {"ask": "release", "term": 7, "previous": None, **common},
        "status": {"ask": "status", "term": 0, "previous": None, **common},
    }
    assert "SECRET_OF_THE_DAEMON" not in (tmp_path / "env").read_text()
    assert (tmp_path / "arguments").read_text() == "0\n"


@pytest.mark.parametrize(
    ("script", "outcome", "code", "words"),
    [
        ("echo mounted", Outcome.SUCCEEDED, "", "mounted"),
        ("echo device busy >&2; exit 1", Outcome.FAILED, "STORE_HOOK_FAILED", "exit 1: device busy"),
        ("echo no path to it; exit 2", Outcome.FAILED, "STORE_HOOK_REFUSED", "exit 2: no path to it"),
        ("exit 3", Outcome.FAILED, "STORE_HOOK_FAILED", "exit 3"),
        ("no-such-command-of-anyone 2> /dev/null", Outcome.FAILED, "STORE_HOOK_FAILED", "exit 127"),
        ("kill -9 $$", Outcome.FAILED, "STORE_HOOK_FAILED", "ended by signal 9"),
    ],
)
def test_each_exit_code_has_its_meaning(tmp_path: Path, script: str, outcome: Outcome, code: str, words: str) -> None:
    result = take(hook(tmp_path, script))
    assert (result.outcome, result.code) == (outcome, code)
    assert result.reason.endswith(words)


def test_one_that_cannot_be_started_did_nothing(tmp_path: Path) -> None:
    result = take(StoreHook(str(tmp_path / "none"), cluster="mail", me=NodeName("mail2")))
    assert (result.outcome, result.code) == (Outcome.FAILED, "STORE_HOOK_NOT_RUN")
    assert "No such file" in result.reason


@pytest.mark.parametrize("trap", ["", "trap 'exit 0' TERM", "trap '' TERM"])
def test_one_that_hangs_is_unknown_whatever_it_then_ends_with(tmp_path: Path, trap: str) -> None:
    store = hook(
        tmp_path,
        f'exec 2> /dev/null\n{trap}\necho $$ > "{tmp_path}/pid"; echo "unmounting"; while :; do sleep 0.05; done',
    )
    began = time.monotonic()
    result = take(store, SHORT_MS)
    assert time.monotonic() - began < 2 * SHORT_MS / 1000
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "STORE_HOOK_TIMEOUT")
    assert result.reason.endswith("was killed: unmounting")
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: gone(pid))


@pytest.mark.parametrize("ends", ["exit 0", "wait"])
def test_its_children_do_not_outlive_it(tmp_path: Path, ends: str) -> None:
    store = hook(tmp_path, f'sleep 600 & echo $! > "{tmp_path}/pid"; {ends}')
    result = take(store, LONG_MS if ends == "exit 0" else SHORT_MS)
    assert result.outcome is (Outcome.SUCCEEDED if ends == "exit 0" else Outcome.UNKNOWN)
    pid = int((tmp_path / "pid").read_text())
    assert pid != os.getpid()
    wait_until(lambda: gone(pid))


def test_of_too_much_output_the_end_is_kept_and_can_stand_in_a_log(tmp_path: Path) -> None:
    store = hook(
        tmp_path, "head -c 3000000 /dev/zero; echo; printf 'red \\033[31m'; head -c 900 /dev/zero | tr '\\0' x"
    )
    result = take(store)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.reason.startswith("red ?[31mx")
    assert len(result.reason) == LONGEST_WORDS


def test_a_release_is_not_asked_for_beside_a_take_that_cannot_be_killed(tmp_path: Path) -> None:
    """It is in the kernel, and may still come to pass: here it only does not end, and has left its group."""
    store = hook(tmp_path, f'echo $$ >> "{tmp_path}/asked"; sleep 600')
    real = os.killpg

    def powerless(group: int, number: int) -> None:
        """As signals are to a process that waits for a device."""

    async def scene() -> tuple[Result, Result]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "killpg", powerless)
            late = await store.take(term=7, previous=None, deadline_ms=SHORT_MS)
            refused = await store.release(term=7, deadline_ms=SHORT_MS)
        return late, refused

    late, refused = asyncio.run(scene())
    pid = int((tmp_path / "asked").read_text())
    real(pid, 9)
    assert (late.outcome, late.code) == (Outcome.UNKNOWN, "STORE_HOOK_TIMEOUT")
    assert (refused.outcome, refused.code) == (Outcome.FAILED, "STORE_HOOK_NOT_RUN")
    assert len((tmp_path / "asked").read_text().split()) == 1
    wait_until(lambda: gone(pid))


# ---- looked at ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "health", "code"),
    [
        ("exit 0", Health.OK, ""),
        ("echo no path to it; exit 2", Health.FAILED, "STORE_HOOK_REFUSED"),
        ("exit 1", Health.FAILED, "STORE_HOOK_FAILED"),
        ("sleep 600", Health.FAILED, "STORE_HOOK_TIMEOUT"),
    ],
)
def test_a_replica_knows_before_that_it_could_not(tmp_path: Path, script: str, health: Health, code: str) -> None:
    probe = StoreProbe(hook(tmp_path, script))
    within_ms = SHORT_MS if code == "STORE_HOOK_TIMEOUT" else LONG_MS
    seen = asyncio.run(observe("store", probe, Target(NodeName("mail2"), ""), within_ms, BootClock()))
    assert (seen.reading.health, seen.reading.code) == (health, code)


# ---- with the lease -------------------------------------------------------------------------------------------------


WELL = Result(Outcome.SUCCEEDED)


class NoUnits:
    """A systemd that answers as it is told, and notes what it was asked."""

    def __init__(self, stop: Result = WELL) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self._stop = stop

    async def start(self, units: Sequence[str], *, deadline_ms: int) -> Result:  # noqa: ARG002 - of the protocol
        """All of them start."""
        self.asked.append(("start", tuple(units)))
        return WELL

    async def stop(self, units: Sequence[str], *, deadline_ms: int) -> Result:  # noqa: ARG002 - likewise
        """As told."""
        self.asked.append(("stop", tuple(units)))
        return self._stop

    async def restart(self, unit: str, *, deadline_ms: int) -> Result:
        """No step of the mail store."""
        raise AssertionError((unit, deadline_ms))

    async def kill(self, unit: str, *, deadline_ms: int) -> Result:
        """Nor this."""
        raise AssertionError((unit, deadline_ms))


def performed(
    store: StoreHook,
    kind: StepKind,
    *,
    units: NoUnits | None = None,
    held_ms: int = LONG_MS,
    cancel: Callable[[], bool] | None = None,
) -> StepEnded:
    async def scene() -> StepEnded:
        answer: asyncio.Future[StepEnded] = asyncio.get_running_loop().create_future()
        unused: Any = None
        clock = BootClock()
        until_ms = clock.now_ms() + held_ms
        executor = Executor(
            node=NodeName("mail2"),
            clock=clock,
            gate=unused,
            database=unused,
            heart=unused,
            units=units or NoUnits(),
            store=unused,
            prove=unused,
            deliver=answer.set_result,
            broken=answer.set_exception,
            moved=store,
            held_until_ms=lambda: until_ms,
        )
        step = Step(kind, term=7, number=1, deadline_ms=LONG_MS, previous=NodeName("mail1"), units=("a", "b"))
        executor.perform(step, until_ms=0)
        if cancel is not None:
            await asyncio.to_thread(wait_until, cancel)
            executor.cancel(step)
        return await asyncio.wait_for(answer, 20)

    return asyncio.run(scene())


def test_each_step_asks_for_what_it_is_called(tmp_path: Path) -> None:
    store, units = hook(tmp_path, f'cat >> "{tmp_path}/asked"'), NoUnits()
    for kind in (StepKind.TAKE_STORE, StepKind.START_SERVICES, StepKind.STOP_SERVICES, StepKind.RELEASE_STORE):
        ended = performed(store, kind, units=units)
        assert (ended.outcome, ended.step.kind) == (Outcome.SUCCEEDED, kind)
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert [(one["ask"], one["term"], one["previous"]) for one in asked] == [("take", 7, "mail1"), ("release", 7, None)]
    assert units.asked == [("start", ("a", "b")), ("stop", ("a", "b"))]


def test_without_the_lease_the_program_is_not_even_started(tmp_path: Path) -> None:
    store = hook(tmp_path, f'touch "{tmp_path}/ran"')
    ended = performed(store, StepKind.TAKE_STORE, held_ms=-1)
    assert (ended.outcome, ended.code) == (Outcome.UNKNOWN, "STORE_LATE")
    assert not (tmp_path / "ran").exists()
    assert performed(store, StepKind.RELEASE_STORE, held_ms=-1).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("how", ["the lease ends", "cancelled"])
def test_a_program_that_is_not_needed_any_more_is_ended(tmp_path: Path, how: str) -> None:
    pid_file = tmp_path / "pid"
    store = hook(
        tmp_path, f'echo $$ > "{tmp_path}/new"; mv "{tmp_path}/new" "{pid_file}"; while :; do sleep 0.05; done'
    )
    began = time.monotonic()
    if how == "cancelled":
        ended = performed(store, StepKind.TAKE_STORE, cancel=pid_file.exists)
        assert ended.code == "STORE_CANCELLED"
    else:
        ended = performed(store, StepKind.TAKE_STORE, held_ms=3000)
        assert ended.code == "STORE_LATE"
    assert ended.outcome is Outcome.UNKNOWN
    assert time.monotonic() - began < LONG_MS / 2000
    pid = int(pid_file.read_text())
    wait_until(lambda: gone(pid))


# ---- without the daemon ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "stop", "left", "released"),
    [
        ("exit 0", WELL, True, True),
        ("exit 1", WELL, False, True),
        ("exit 0", Result(Outcome.UNKNOWN, "UNIT_JOB_TIMEOUT", "b did not end"), False, False),
    ],
)
def test_what_drops_the_role_leaves_the_store_once_the_services_are_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, stop: Result, *, left: bool, released: bool
) -> None:
    store, units = hook(tmp_path, f'cat > "{tmp_path}/asked"; {script}'), NoUnits(stop)
    assert asyncio.run(leave(store, units, ["a", "b"], term=7, deadline_ms=LONG_MS)) == left
    assert units.asked == [("stop", ("a", "b"))]
    assert (tmp_path / "asked").exists() == released
    assert ("the mail store is not left" in capsys.readouterr().err) != left


# ---- the one that is shown ------------------------------------------------------------------------------------------


def test_the_program_of_the_runbook_does_what_it_is_asked(tmp_path: Path) -> None:
    page = (REPOSITORY / "runbooks" / "mail-store.md").read_text()
    (script,) = re.findall(r"```sh\n#!/bin/sh\n(.*?)```", page, re.DOTALL)
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n')
    systemctl.chmod(0o755)
    store = hook(tmp_path, script.replace("systemctl", str(systemctl)))
    assert take(store).outcome is Outcome.SUCCEEDED
    assert asyncio.run(store.release(term=7, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert asyncio.run(store.look(deadline_ms=LONG_MS)).health is Health.OK
    assert (tmp_path / "asked").read_text() == "start srv-mail.mount\nstop srv-mail.mount\ncat srv-mail.mount\n"


def test_whoever_hears_of_an_end_may_ask_again_at_once(tmp_path: Path) -> None:
    store = hook(tmp_path, "exit 0")

    async def again() -> None:
        for _ in range(100):
            assert (await store.release(term=7, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED

    asyncio.run(again())
