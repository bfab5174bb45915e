"""`failoverd helper` as a process of its own, asked by the daemon's side of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from fence_stage import PASSWORD, Stage, alive

from failoverd.config import load
from failoverd.core.model import Health, NodeName, Outcome
from failoverd.ports import Result, Target
from failoverd.probes.aside import Aside
from failoverd.probes.deadline import observe
from failoverd.probes.disk import DiskProbe
from failoverd.probes.disk_writer import NAME
from failoverd.probes.host import HostLimits, HostProbe
from failoverd.probes.queue import QueueProbe
from failoverd.runtime.beside import Beside
from failoverd.runtime.clock import BootClock
from failoverd.runtime.helped import SOCKET, HelpedFence, HelpedQueue, HelpedStore, Helper, HelperError
from failoverd.runtime.helper import Ask, Means
from failoverd.runtime.host import Refused
from failoverd.runtime.reach import reach_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from failoverd.core.model import Reading
    from failoverd.ports import Probe
    from failoverd.runtime.helper import Answer

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
LONG_MS = 10_000  # for what ends by itself
PATIENCE_S = 20


def wait_for(what: str, done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.01)


class Node:
    """mail2's configuration, state and runtime directory; `agent` would cut mail1's power."""

    def __init__(self, place: Path, example: str) -> None:
        self.place = place
        self.mail, self.runtime, self.state = place / "mail", place / "run", place / "state"
        for made in (self.mail, self.runtime, self.state):
            made.mkdir()
        self.stage = Stage(place)
        self.config = place / "failoverd.yaml"
        text = re.sub(r"(?m)^queue: .*$", "queue: {kind: none}", example)
        text = re.sub(r"(?m)^disks: .*$", f"disks: {{write: [{self.mail}], interval: 1s, deadline: 1s}}", text)
        self._text = re.sub(r"(?m)^mail_store: .*$", f"mail_store: {{kind: shared, path: {self.mail}}}", text)
        self.fence_by("good")

    def fence_by(self, agent: str) -> None:
        """Write a configuration with this agent."""
        device = self.stage.device(agent)
        secret = self.place / "secret"
        secret.touch(mode=0o600)
        secret.write_text(f"{PASSWORD}\n")
        options = f"options: {{state: {device.options['state']}}}, secrets: {{passwd: {secret}}}"
        self.config.write_text(
            f"{self._text}\nfencing:\n  timeout: 10s\n  nodes:\n    mail1:\n"
            f"      - - {{agent: {device.path}, {options}}}\n"
        )

    @property
    def helper(self) -> Helper:
        """The daemon's side of it."""
        return Helper(self.runtime / SOCKET)

    @property
    def fence(self) -> HelpedFence:
        """Its fence agents, asked of the helper."""
        return HelpedFence(self.helper)

    @contextmanager
    def helped(self, *under: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the helper for a while, `under` some other program."""
        command = [*under, sys.executable, "-m", "failoverd", "helper", "--config", str(self.config), "--node", MAIL2]
        command += ["--state", str(self.state), "--runtime", str(self.runtime)]
        with subprocess.Popen(command) as process:
            try:
                wait_for("it listens", lambda: self.helper.missing() is None)
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)

    def raw(self, line: bytes) -> bytes:
        """What it answers to any bytes."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(PATIENCE_S)
            asked.connect(str(self.runtime / SOCKET))
            asked.sendall(line)
            return asked.recv(65536)


@pytest.fixture
def node(tmp_path: Path, example: str) -> Node:
    return Node(tmp_path, example)


@pytest.fixture
def process(node: Node) -> Iterator[subprocess.Popen[bytes]]:
    with node.helped() as process:
        yield process


@pytest.fixture
def helped(node: Node, process: subprocess.Popen[bytes]) -> Node:  # noqa: ARG001 - it runs
    return node


# ---- what it does ---------------------------------------------------------------------------------------------------


def test_a_fence_agent_is_run_and_believed_as_by_the_daemon_itself(helped: Node) -> None:
    result = asyncio.run(helped.fence.power_off(MAIL1, deadline_ms=LONG_MS))
    assert (result.outcome, result.code) == (Outcome.SUCCEEDED, "")
    assert helped.stage.asked == ["off", "status"]
    assert asyncio.run(helped.fence.status(MAIL1, own=False, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED


def test_an_agent_that_lies_is_not_believed(node: Node) -> None:
    node.fence_by("liar")
    with node.helped():
        result = asyncio.run(node.fence.power_off(MAIL1, deadline_ms=LONG_MS))
    assert (result.outcome, result.code) == (Outcome.FAILED, "FENCE_NOT_OFF")


def test_whoever_gives_up_ends_what_was_begun(node: Node) -> None:
    node.fence_by("hangs")

    async def give_up() -> None:
        cutting = asyncio.ensure_future(node.fence.power_off(MAIL1, deadline_ms=LONG_MS))
        while not node.stage.noted():  # noqa: ASYNC110 - a file that another process writes
            await asyncio.sleep(0.01)
        cutting.cancel()
        await asyncio.wait({cutting})

    with node.helped():
        asyncio.run(give_up())
        wait_for("the agent has ended", lambda: not alive(node.stage.pid))
        assert node.helper.missing() is None


def test_the_locks_of_a_lost_node_are_broken(helped: Node) -> None:
    box = helped.mail / "anna"
    box.mkdir()
    lock = box / "dovecot-uidlist.lock"
    lock.write_text("417:mail1")
    os.utime(lock, (time.time() - 9,) * 2)
    result = HelpedStore(helped.helper).break_locks(given=False, deadline_ms=LONG_MS)
    assert (result.outcome, result.reason) == (Outcome.SUCCEEDED, "1 locks broken")
    assert not lock.exists()


def test_a_walk_that_is_not_wanted_any_more_is_given_up(helped: Node) -> None:
    stopped = threading.Event()
    stopped.set()
    result = HelpedStore(helped.helper).break_locks(given=False, deadline_ms=LONG_MS, stopped=stopped)
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "HELPER_MISSING")


def test_a_disk_is_written_to_by_a_writer_that_ends_with_the_probe(helped: Node) -> None:
    async def look() -> list[Health]:
        probe = DiskProbe(str(helped.mail), helped.runtime, helped.helper.lend)
        target = Target(MAIL2, "10.89.1.12")
        seen = [(await observe("disk", probe, target, LONG_MS, BootClock())).reading.health for _ in range(3)]
        assert writers(helped.mail)
        await probe.close()
        return seen

    assert asyncio.run(look()) == [Health.OK] * 3
    assert (helped.mail / NAME).exists()
    wait_for("its writer has ended", lambda: not writers(helped.mail))


def test_a_helper_that_hangs_keeps_no_disk_from_being_written_to(
    helped: Node, process: subprocess.Popen[bytes]
) -> None:
    """Its writer is a process of its own, which it has lent for good."""

    async def story() -> list[Reading]:
        probe, target = DiskProbe(str(helped.mail), helped.runtime, helped.helper.lend), Target(MAIL2, "10.89.1.12")
        seen = [(await observe("disk", probe, target, LONG_MS, BootClock())).reading]
        process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED)
        seen.append((await observe("disk", probe, target, LONG_MS, BootClock())).reading)
        process.send_signal(signal.SIGCONT)
        await probe.close()
        return seen

    assert [reading.health for reading in asyncio.run(story())] == [Health.OK] * 2


def test_the_space_that_is_left_is_the_hosts(helped: Node) -> None:
    found = helped.helper.space("/")
    there = os.statvfs("/")
    assert 0 < found.free_percent <= 100
    assert found.read_only is bool(there.f_flag & os.ST_RDONLY)
    with pytest.raises(HelperError, match="not one of host"):
        helped.helper.space("/proc")


def writers(path: Path) -> str:
    return subprocess.run(
        ["pgrep", "-f", f"disk_writer.py {path} "], check=False, capture_output=True, text=True
    ).stdout


# ---- what it does not do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        b'{"verb": "disk", "deadline_ms": 100, "path": "/etc"}\n',
        b'{"verb": "fence-off", "deadline_ms": 100, "node": "mail9"}\n',
        b'{"verb": "fence-off", "deadline_ms": 100}\n',
        b'{"verb": "store-take", "deadline_ms": 100, "term": 1, "previous": null}\n',  # it stays
        b'{"verb": "queue-drain", "deadline_ms": 100}\n',  # of kind none
        b'{"verb": "run", "deadline_ms": 100, "path": "/bin/sh"}\n',
        b'{"verb": "locks", "deadline_ms": "soon", "given": true}\n',
        b'{"verb": "fence-off", "deadline_ms": 9000, "until_ms": 1, "node": "mail1"}\n',  # of a time that is over
        b"[]\n",
        b"no ask\n",
        b"\xff\n",
        b"x" * 70_000 + b"\n",
    ],
)
def test_what_the_configuration_does_not_name_is_refused(helped: Node, ask: bytes) -> None:
    assert "error" in json.loads(helped.raw(ask))
    assert not (helped.place / "machine.asked").exists()
    assert asyncio.run(helped.fence.power_off(MAIL1, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED


def test_only_its_owner_may_connect(helped: Node) -> None:
    mode = (helped.runtime / SOCKET).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.root
def test_somebody_else_is_not_answered_even_where_the_socket_is_open_to_all(helped: Node) -> None:
    for place in (helped.place, *helped.place.parents[:3]):
        place.chmod(place.stat().st_mode | 0o111)
    helped.runtime.chmod(0o755)
    (helped.runtime / SOCKET).chmod(0o666)
    program = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode() + b'\\n'); print(s.recv(999))"
    )
    ask = json.dumps({"verb": "fence-off", "deadline_ms": 1000, "node": MAIL1})
    command = ["/usr/bin/python3", "-I", "-c", program, str(helped.runtime / SOCKET), ask]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert asked.stdout.strip() in {"b''", ""}, asked
    assert not (helped.place / "machine.asked").exists()


# ---- without it -----------------------------------------------------------------------------------------------------


def test_without_it_nothing_is_believed_and_the_daemon_says_so(node: Node) -> None:
    missing = node.helper.missing()
    assert missing is not None
    assert missing.code == "HELPER_MISSING"
    result = asyncio.run(node.fence.power_off(MAIL1, deadline_ms=LONG_MS))
    assert (result.outcome, result.code) == (Outcome.FAILED, "HELPER_MISSING")
    reading = asyncio.run(HelpedStore(node.helper).look(deadline_ms=LONG_MS))
    assert (reading.health, reading.code) == (Health.FAILED, "HELPER_MISSING")
    with pytest.raises(HelperError, match="failoverd-helper"):
        HelpedQueue(node.helper).waiting()
    with pytest.raises(HelperError, match="No such file"):
        node.helper.lend(str(node.mail))


def test_an_agent_whose_helper_was_killed_may_have_cut_the_power(node: Node) -> None:
    node.fence_by("hangs")

    async def killed(process: subprocess.Popen[bytes]) -> None:
        cutting = asyncio.ensure_future(node.fence.power_off(MAIL1, deadline_ms=LONG_MS))
        while not node.stage.noted():  # noqa: ASYNC110 - a file that another process writes
            await asyncio.sleep(0.01)
        process.kill()
        result = await cutting
        assert (result.outcome, result.code) == (Outcome.UNKNOWN, "HELPER_MISSING")

    with node.helped() as process:
        asyncio.run(killed(process))
    os.kill(node.stage.pid, signal.SIGKILL)


# ---- another configuration ------------------------------------------------------------------------------------------


def test_it_works_by_the_configuration_that_the_daemon_has_begun_with(helped: Node) -> None:
    helped.fence_by("liar")
    asyncio.run(helped.helper.renew())
    assert asyncio.run(helped.fence.power_off(MAIL1, deadline_ms=LONG_MS)).code == "FENCE_NOT_OFF"


def test_a_wrong_configuration_leaves_the_old_in_force(helped: Node) -> None:
    helped.config.write_text("no: configuration\n")
    asyncio.run(helped.helper.renew())
    assert asyncio.run(helped.fence.power_off(MAIL1, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED


def test_the_daemon_asks_it_only_where_it_is_told_to(node: Node) -> None:
    config = load(node.config, MAIL2)
    assert isinstance(reach_of(config, node.state, node.runtime, node.runtime / SOCKET).fence, HelpedFence)
    assert not isinstance(reach_of(config, node.state, node.runtime, None).fence, HelpedFence)


def test_what_was_given_up_while_the_helper_stood_still_is_not_begun(node: Node) -> None:
    """By the client, long before the deadline: its connection is over, and says so before what it had said."""
    with node.helped() as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(node.runtime / SOCKET))
            ask = {"verb": "fence-off", "deadline_ms": LONG_MS, "node": MAIL1}
            asked.sendall(json.dumps(ask).encode() + b"\n")
        process.send_signal(signal.SIGCONT)
        # Connections are taken in turn: once this one is answered, the one before it has been seen to its end.
        assert asyncio.run(node.fence.status(MAIL1, own=False, deadline_ms=LONG_MS)).outcome is Outcome.SUCCEEDED
    assert node.stage.asked == ["monitor", "status"]


# ---- one that hangs, or is of another release -----------------------------------------------------------------------


@contextmanager
def another(node: Node, answer: bytes | None) -> Iterator[None]:
    """Something else at the helper's socket, which gives everybody this answer; None: it takes nobody's call."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(node.runtime / SOCKET))
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connected, _ = listening.accept()
                except OSError:
                    return  # it is over
                with connected, contextlib.suppress(OSError):
                    connected.recv(9999)
                    connected.sendall(answer or b"")

        if answer is not None:
            threading.Thread(target=serve, daemon=True).start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def look(name: str, probe: Probe, deadline_ms: int) -> Reading:
    """One look of a probe of the node's own, as the prober takes it."""
    return asyncio.run(observe(name, probe, Target(MAIL2, "10.89.1.12"), deadline_ms, BootClock())).reading


def looks(node: Node) -> dict[str, Reading]:
    """What the probes find that ask the helper."""
    host = HostProbe(HostLimits(("/",), 0, 0, 1e6), node.helper.space)
    disk = DiskProbe(str(node.mail), node.runtime, node.helper.lend)
    queue = QueueProbe(HelpedQueue(node.helper, look_ms=100).waiting)
    found = {"host": look("host", host, 1000), "disk": look("disk", disk, 100), "queue": look("queue", queue, 1000)}
    asyncio.run(disk.close())
    return found


@pytest.mark.parametrize("answer", [None, b"{}\n", b'{"error": "x", "errno": 1e9}\n', b"]\n", b""])
def test_no_disk_and_no_queue_is_blamed_for_a_helper_that_does_not_look(node: Node, answer: bytes | None) -> None:
    with another(node, answer):
        found = looks(node)
    assert {name: reading.health for name, reading in found.items()} == dict.fromkeys(found, Health.UNKNOWN)
    assert found["host"].code == found["queue"].code == "HELPER_MISSING"


def test_neither_where_it_is_away(node: Node) -> None:
    found = looks(node)
    assert {(reading.health, reading.code) for reading in found.values()} == {(Health.UNKNOWN, "HELPER_MISSING")}


def test_a_file_system_that_hangs_is_told_from_a_helper_that_does(node: Node) -> None:
    """The look of an earlier ask has not come back: the helper says so in time."""
    means, back = Means(load(node.config, MAIL2), node.state, node.runtime), threading.Event()

    async def ask() -> Answer:
        means.spaces["/"] = Aside("hangs")
        hanging = asyncio.ensure_future(means.spaces["/"].run(back.wait))
        await asyncio.sleep(0)
        try:
            return await means.verbs["space"](Ask("space", 100, {"path": "/"}))
        finally:
            back.set()
            await hanging

    with pytest.raises(TimeoutError) as raised:
        asyncio.run(ask())
    answer = json.dumps({"error": "x", "errno": raised.value.errno}).encode() + b"\n"
    with another(node, answer):
        found = looks(node)
    assert (found["host"].health, found["host"].code) == (Health.FAILED, "DISK_HUNG")
    assert (found["queue"].health, found["queue"].code) == (Health.FAILED, "QUEUE_FAILED")


@pytest.mark.parametrize(
    "answer", [b"]\n", b"{}\n", b'{"outcome": "perhaps", "code": "", "reason": ""}\n', b"7\n", b""]
)
def test_an_answer_that_is_none_is_no_success_and_no_failure_and_ends_no_daemon(node: Node, answer: bytes) -> None:
    store, queue = HelpedStore(node.helper), HelpedQueue(node.helper)
    with another(node, answer):
        results = [
            asyncio.run(node.fence.power_off(MAIL1, deadline_ms=LONG_MS)),
            asyncio.run(store.take(term=1, previous=None, deadline_ms=LONG_MS)),
            asyncio.run(store.release(term=1, deadline_ms=LONG_MS)),
            asyncio.run(queue.run(MAIL1, "10.89.1.11", own=False, deadline_ms=LONG_MS)),
            store.break_locks(given=True, deadline_ms=LONG_MS),
            queue.drain(deadline_ms=LONG_MS),
        ]
        seen = asyncio.run(store.look(deadline_ms=LONG_MS))
    assert {(result.outcome, result.code) for result in results} == {(Outcome.UNKNOWN, "HELPER_MISSING")}
    assert (seen.health, seen.code) == (Health.FAILED, "HELPER_MISSING")


async def watched(helper: Helper, until: Callable[[Refused | None], bool]) -> Refused | None:
    """What is found of it, as soon as that is so."""
    watching = asyncio.ensure_future(helper.watch(0.02))
    end = time.monotonic() + PATIENCE_S
    while not until(helper.missing()) and time.monotonic() < end:  # noqa: ASYNC110 - another process comes or goes
        await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.wait({watching})
    return helper.missing()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b'{"release": "0.0.7"}\n', "is of release 0.0.7, this daemon of release"),
        (b'{"error": "verb: \'release\' is not known"}\n', "is of another release, this daemon of release"),
    ],
)
def test_one_of_another_release_is_found(node: Node, answer: bytes, says: str) -> None:
    with another(node, answer):
        found = asyncio.run(watched(node.helper, bool))
    assert found is not None
    assert found.code == "HELPER_RELEASE"
    assert says in found.reason


def test_one_that_answers_no_more_is_found_and_one_that_is_back_is_well(node: Node) -> None:
    async def story() -> None:
        with another(node, b""):
            found = await watched(node.helper, bool)
        assert found is not None
        assert found.code == "HELPER_MISSING"
        (node.runtime / SOCKET).unlink()
        found = await watched(node.helper, bool)
        assert found is not None
        assert (found.code, found.reason) == (
            "HELPER_MISSING",
            "failoverd-helper does not listen: No such file or directory",
        )

    asyncio.run(story())
    with node.helped():
        assert asyncio.run(watched(node.helper, lambda found: found is None)) is None


def test_what_a_reload_does_not_change_is_kept_with_what_still_runs_of_it(node: Node) -> None:
    means = Means(load(node.config, MAIL2), node.state, node.runtime)
    same = Means(load(node.config, MAIL2), node.state, node.runtime, means)
    assert (same.fence, same.spaces, same.looking) == (means.fence, means.spaces, means.looking)
    node.fence_by("liar")
    other = Means(load(node.config, MAIL2), node.state, node.runtime, means)
    assert other.fence is not means.fence


class Launched:
    """systemd, as far as it is asked to start something."""

    def __init__(self) -> None:
        self.units: list[str] = []

    async def launch(self, unit: str, *, deadline_ms: int) -> Result:
        """Take it."""
        assert deadline_ms > 0
        self.units.append(unit)
        return Result(Outcome.SUCCEEDED)


def test_a_reload_starts_what_a_wrong_file_has_ended(node: Node) -> None:
    away = Refused("GUARD_MISSING", "failoverd-guard does not run")
    launched = Launched()
    asyncio.run(Beside(launched, node.helper, lambda: away).reloaded())
    assert launched.units == ["failoverd-guard.service", "failoverd-helper.service"]


def test_a_reload_reaches_a_helper_that_is_there_and_starts_nothing(helped: Node) -> None:
    helped.fence_by("liar")
    launched = Launched()
    leash = Refused("LEASH_REFUSED", "the kernel refuses it")  # it runs
    asyncio.run(Beside(launched, helped.helper, lambda: leash).reloaded())
    assert launched.units == []
    assert asyncio.run(helped.fence.power_off(MAIL1, deadline_ms=LONG_MS)).code == "FENCE_NOT_OFF"
