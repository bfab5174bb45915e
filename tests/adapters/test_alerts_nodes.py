"""Several nodes with their daemons' loops and real mutual TLS between them: one tells, another takes over."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from alert_stage import ADDRESSES, Answer, Sink, configured, free_port, receiver, until
from control_stage import BEHIND, FIT, HEALTHY, UNSYNCED, Stage
from node_certificates import Authority, Files

from failoverd.config.model import Peer
from failoverd.core.model import NodeName
from failoverd.notify import herald as herald_module
from failoverd.runtime import alerting as module
from failoverd.runtime.alerting import Alerting
from failoverd.runtime.clock import BootClock
from failoverd.runtime.node_server import NodeServer
from failoverd.tls import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from failoverd.config import Config
    from failoverd.runtime.controller import NodeController
    from failoverd.runtime.daemon import Daemon
    from failoverd.runtime.document import CheckDocument, CheckedFinding, StatusDocument

NAMES = ("arbiter", "mail1", "mail2", "mail3")


class Cluster:
    """Nodes on loopback, each with its daemon's side of the alerts, all on one loop in a thread of its own."""

    def __init__(self, config_file: Path, directory: Path, *receivers: Any) -> None:
        self._config_file, self._directory, self._receivers = config_file, directory, receivers
        self.port = free_port()
        authority = Authority(directory)
        self._files: dict[str, Files] = {name: authority.node(name, ADDRESSES[name]) for name in NAMES}
        self.findings: tuple[CheckedFinding, ...] = ()
        self.up: dict[str, tuple[NodeServer, Alerting]] = {}
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the loop, and wait."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def close(self) -> None:
        """End all."""
        for name in list(self.up):
            self.stop(name)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def config(self, name: str) -> Config:
        """The node's configuration, with its own certificate."""
        config = configured(
            self._config_file, self._directory / name, *self._receivers, node=name, port=self.port, repeat_ms=None
        )
        files = self._files[name]
        peer = Peer.model_construct(port=self.port, ca=files.ca, certificate=files.certificate, key=files.key)
        return config.model_copy(update={"peer": peer})

    def start(self, name: str) -> Alerting:
        """Start a node."""
        config, files = self.config(name), self._files[name]
        config.__dict__["nodes"] = configured(self._config_file, self._directory, port=self.port).nodes
        node = config.nodes[NodeName(name)]
        sendings = SimpleNamespace(process=f"{name}-{time.monotonic_ns()}")
        view = SimpleNamespace(me=node, sendings=sendings, reports=(), record=None)
        daemon = SimpleNamespace(state=SimpleNamespace(view=view), observed=lambda _: None)
        alerting = Alerting(
            config,
            BootClock(),
            as_daemon(daemon),
            as_controller(Seeing(self, name)),
            client_context(ca=files.ca, certificate=files.certificate, key=files.key),
        )

        async def starting() -> NodeServer:
            server = NodeServer(
                address=ADDRESSES[name],
                port=self.port,
                ssl_context=server_context(ca=files.ca, certificate=files.certificate, key=files.key),
                nodes=list(NAMES),
                routes=alerting.peer_routes(),
            )
            await server.start()
            await alerting.start()
            return server

        self.up[name] = (self.call(starting()), alerting)
        return alerting

    def stop(self, name: str) -> None:
        """End a node."""
        server, alerting = self.up.pop(name)
        self.call(alerting.stop())
        self.call(server.stop())

    def known_as_told(self, name: str) -> list[tuple[str, ...]]:
        """Which receivers have each open alert, as a node knows."""
        return [told for _, _, told in self.call(self.up[name][1]._herald.state()).open]

    def voices(self) -> dict[str, str]:
        """Who speaks, by each node's own word."""
        return {name: self.call(alerting._herald.state()).voice.value for name, (_, alerting) in self.up.items()}


class Seeing(Stage):
    """The documents of one node of a cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__()
        self._cluster, self._name = cluster, name

    def status(self) -> StatusDocument:  # noqa: D102 - see Controller
        nodes = tuple(replace(node, fresh=node.name in self._cluster.up or node.name == self._name)
                      for node in HEALTHY.nodes)  # fmt: skip
        return replace(HEALTHY, node=self._name, nodes=nodes)

    def check(self) -> CheckDocument:  # noqa: D102 - see Controller
        return replace(FIT, node=self._name, findings=self._cluster.findings)


def as_daemon(stand_in: Any) -> Daemon:
    return stand_in  # type: ignore[no-any-return] # what Alerting asks of it is there


def as_controller(stand_in: Any) -> NodeController:
    return stand_in  # type: ignore[no-any-return] # likewise


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def cluster(config_file: Path, tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(module, "GRACE_MS", 0)  # or what a node that was just started does not find stays open
    cluster = Cluster(config_file, tmp_path, receiver("desk", sink.url))
    yield cluster
    cluster.close()


def test_one_tells_and_another_goes_on_where_it_stopped(cluster: Cluster, sink: Sink) -> None:
    for name in NAMES:
        cluster.start(name)
    until(lambda: cluster.voices() == {"arbiter": "speaking", "mail1": "silent", "mail2": "silent", "mail3": "silent"})
    cluster.findings = (UNSYNCED, BEHIND)
    until(lambda: cluster.known_as_told("mail1") == [("desk",), ("desk",)])  # or what the arbiter told is told again
    cluster.stop("arbiter")
    until(lambda: cluster.voices()["mail1"] == "speaking")
    cluster.findings = (BEHIND,)
    until(lambda: len(sink.taken) == 3 and cluster.up["mail1"][1].queued == 0)
    cluster.start("arbiter")
    until(lambda: cluster.voices()["arbiter"] == "speaking" and cluster.voices()["mail1"] == "silent")
    cluster.findings = ()
    until(lambda: len(sink.taken) == 4)
    assert [(body["status"], body["code"], body["told_by"]) for body in sink.taken] == [
        ("firing", "LAG_WARN", "arbiter"),
        ("firing", "SET_SYNC_BINLOG", "arbiter"),
        ("resolved", "SET_SYNC_BINLOG", "mail1"),
        ("resolved", "LAG_WARN", "arbiter"),
    ]
    assert len({body["id"] for body in sink.taken}) == 4
    books = [cluster.call(alerting._herald.state()) for _, alerting in cluster.up.values()]
    assert all(state.open == () for state in books)


def test_what_the_speaker_could_not_deliver_another_tells_when_it_is_asked_to(cluster: Cluster, sink: Sink) -> None:
    sink.always = Answer(503)
    cluster.start("mail1")
    cluster.findings = (UNSYNCED,)
    until(lambda: cluster.up["mail1"][1].queued == 1)
    cluster.start("arbiter")
    until(lambda: cluster.voices() == {"mail1": "silent", "arbiter": "speaking"})
    sink.always = Answer()
    until(lambda: len(sink.taken) == 1)
    until(lambda: cluster.up["mail1"][1].queued == 0)
    assert sink.taken[0]["told_by"] == "arbiter"


def test_the_daemon_s_loop_waits_for_nothing(
    cluster: Cluster, sink: Sink, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that tells is stopped outright, as by a disk that hangs: the loop turns, and who asks is told so."""
    monkeypatch.setattr(herald_module, "TEST_S", 1.0)
    alerting = cluster.start("arbiter")
    herald = alerting._herald
    assert herald is not None
    until(lambda: cluster.voices() == {"arbiter": "speaking"})
    release = threading.Event()
    lags: list[float] = []

    async def beating() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            lags.append(time.perf_counter() - before - 0.01)

    async def hanging() -> None:
        beat = asyncio.ensure_future(beating())
        herald._loop.call_soon_threadsafe(release.wait, 20)
        try:
            for question in (herald.state(), herald.answer("mail1", b"{}"), herald.test("desk")):
                turns = len(lags)
                with pytest.raises(TimeoutError):
                    await question
                assert len(lags) - turns > 20, "the loop turned while the question waited"
        finally:
            beat.cancel()
            release.set()

    cluster.call(hanging())
    with capsys.disabled():
        print(f"\nloop's lag while the telling hangs: worst {max(lags) * 1000:.1f} ms of {len(lags)} turns")
    cluster.findings = (BEHIND,)
    until(lambda: len(sink.taken) == 1)


def test_a_dead_and_a_slow_receiver_are_not_felt_on_the_loop(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Sink() as slow:
        slow.always = Answer(drip_s=1.0)
        dead = receiver("dead", f"http://127.0.0.1:{free_port()}/")
        cluster = Cluster(config_file, tmp_path, dead, receiver("slow", slow.url))
        try:
            cluster.start("arbiter")
            cluster.findings = (BEHIND, UNSYNCED)
            lags: list[float] = []

            async def beating() -> None:
                for _ in range(300):
                    before = time.perf_counter()
                    await asyncio.sleep(0.01)
                    lags.append(time.perf_counter() - before - 0.01)

            cluster.call(beating())
            assert cluster.up["arbiter"][1].queued == 4
            lags.sort()
            with capsys.disabled():
                middle, worst = lags[len(lags) // 2], lags[-1]
                print(
                    f"\nloop's lag with a dead and a slow receiver: median {middle * 1e3:.2f}, "
                    f"worst {worst * 1e3:.2f} ms"
                )
        finally:
            cluster.close()


def test_a_process_that_is_killed_again_and_again_loses_nothing(config_file: Path, tmp_path: Path, sink: Sink) -> None:
    """By kill -9 at any moment: a message may come twice, under one name, and none is missing."""
    chance = random.Random()  # noqa: S311 - a test's dice: another moment each time
    standing = tmp_path / "standing"
    codes = ["LAG_WARN", "DISK_FULL", "BLK_STORE"]
    standing.write_text("[]")
    sink.answers = [Answer(chance.choice([200, 500, 503])) for _ in range(20)]
    arguments = [str(config_file), str(tmp_path / "queue"), sink.url, str(standing)]
    # Directly, without a shell between: what is killed is the process that tells.
    program = [sys.executable, str(Path(__file__).with_name("alert_process.py")), *arguments]

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(program, env={"PYTHONPATH": str(Path(__file__).parent)})

    def names() -> set[str]:
        return {body["id"] for body in sink.taken}

    process = started()
    try:
        for round_ in range(2):
            told = len(names())
            standing.write_text(json.dumps(codes))
            until(lambda: len(sink.requests) > told)  # noqa: B023 - called before it changes
            time.sleep(chance.random() * 0.3)  # at any moment, that is the point
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            process = started()
            until(lambda: len(names()) == 6 * round_ + 3)  # noqa: B023 - likewise
            standing.write_text("[]")
            time.sleep(chance.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            process = started()
            until(lambda: len(names()) == 6 * round_ + 6)  # noqa: B023 - likewise
    finally:
        process.kill()
        process.wait(10)
    keys = ("LAG_WARN/mail2", "DISK_FULL/mail3", "BLK_STORE/arbiter")
    assert names() == {f"lab/{key}/{level}" for key in keys for level in range(1, 5)}
    again = Counter(body["id"] for body in sink.taken)
    assert sum(again.values()) - len(again) <= 4, "at most what was on its way at each kill came twice"
