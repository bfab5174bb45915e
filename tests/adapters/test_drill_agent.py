"""A node's drill agent over mutual TLS, with jobs that are processes: the lock, jobs of all manners, the fault."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from drill_agent_stage import CAST, DRILL, OTHER, UNIT, Cluster, runs, until
from node_certificates import Authority

from failoverd.config.drill import SCENARIOS
from failoverd.drill import DrillError, calls
from failoverd.drill.calls import Agents
from failoverd.drill_files import DIRECTORY, PAGE, REPORT, STATE
from failoverd.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from failoverd.drill.calls import Job

LOCKED = {"id": DRILL, "by": "anna", "node": "mail2"}


@pytest.fixture
def cluster(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(config_file, tmp_path)
    monkeypatch.setenv("PATH", made.path())
    return made


def story(cluster: Cluster, tell: Callable[[Agents], Awaitable[None]], **limits: float) -> None:
    """Run mail1's agent, and beside it what `tell` does, as mail2."""

    async def told() -> None:
        async with cluster.agents("mail1", **limits), Agents(cluster.configs["mail2"]) as agents, asyncio.timeout(30):
            await tell(agents)

    asyncio.run(told())


async def refused(asked: Awaitable[object]) -> DrillError:
    with pytest.raises(DrillError) as error:
        await asked
    return error.value


def locked(agents: Agents, drill: str = DRILL) -> Awaitable[None]:
    return agents.lock("mail1", drill, "anna", "mail2")


async def begun(agents: Agents, what: str, kind: str = "tables") -> Job:
    """Lock mail1 and start a job of the stage there."""
    await locked(agents)
    return await agents.start("mail1", DRILL, kind, {"do": what})


def fault_asked(cluster: Cluster) -> list[str]:
    return [line for line in cluster.asked() if "failoverd-fault" in line or "SIG" in line]


def client(cluster: Cluster, name: str = "mail2", **changes: Any) -> httpx.AsyncClient:
    config = cluster.configs[name]
    tls = {"ca": config.peer.ca, "certificate": config.peer.certificate, "key": config.peer.key, **changes}
    mail1 = cluster.configs["mail1"]
    base = f"https://{mail1.this.address}:{mail1.drill.port}"
    return httpx.AsyncClient(verify=client_context(**tls), base_url=base, trust_env=False)


# ---- the lock --------------------------------------------------------------------------------------------------------


def test_a_node_has_one_drill_at_a_time(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        await locked(agents)
        await locked(agents)  # its own word again only keeps it
        error = await refused(locked(agents, OTHER))
        assert error.code == "DRILL_RUNNING"
        assert f"mail1 is in drill {DRILL} of mail2" in error.reason
        async with client(cluster) as other:
            answer = await other.put("/v1/lock", json={**LOCKED, "id": OTHER})
            assert (answer.status_code, answer.json()) == (409, LOCKED)
        await agents.release("mail1", OTHER)  # not its own: it changes nothing
        assert (await agents.facts("mail1")).drill == DRILL
        await agents.release("mail1", DRILL)
        await agents.release("mail1", DRILL)
        assert (await agents.facts("mail1")).drill == ""
        await locked(agents, OTHER)

    story(cluster, tell)


def test_a_lock_that_is_kept_lasts_and_one_that_is_not_lapses_with_all_of_its_drill(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        job = await begun(agents, "obey")
        child = int((await job.progress())["child"])
        await agents.inject("mail1", DRILL, "service-hang", CAST)
        for _ in range(15):  # three times as long as it holds, in all
            await asyncio.sleep(0.3)
            await locked(agents)
        assert runs(child)
        assert (await agents.facts("mail1")).fault
        await until(lambda: not cluster.host("mail1").drill(), "the fault to be gone")
        await until(lambda: not runs(child), "the job to be gone")
        async with asyncio.timeout(10):
            while (await agents.facts("mail1")).drill:  # noqa: ASYNC110 - what is asked is another process's
                await asyncio.sleep(0.01)
        assert (await refused(agents.start("mail1", DRILL, "tables", {"do": "echo"}))).code == "DRILL_RUNNING"
        await locked(agents, OTHER)

    story(cluster, tell, lease_s=1.5)
    assert any("--signal=SIGCONT" in line for line in cluster.asked())


def test_a_lock_whose_fault_stays_is_not_given_up(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        await locked(agents)
        fault = await agents.inject("mail1", DRILL, "service-hang", CAST)
        cluster.refuse("is-active")
        for _ in range(2):
            error = await refused(agents.release("mail1", DRILL))
            assert error.code == "DRILL_UNDO_FAILED"
            assert "dovecot.service on mail1 hangs: still so, says `systemctl is-active --quiet dovecot" in error.reason
            facts = await agents.facts("mail1")
            assert (facts.drill, facts.fault) == (DRILL, True)
        assert cluster.host("mail1").fault() == fault  # an agent that is started anew goes on with it
        # By systemd, when the unit stopped; and as often as somebody asked, since systemd does so once.
        assert cluster.asked().count(f"kill --kill-whom=all --signal=SIGCONT {UNIT}") == 3
        cluster.refuse("")
        await agents.release("mail1", DRILL)
        assert (await agents.facts("mail1")).drill == ""

    story(cluster, tell)


def test_a_drill_is_refused_where_the_nodes_own_file_does_not_allow_it(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = Cluster(config_file, tmp_path, {"enabled": False})
    monkeypatch.setenv("PATH", off.path())

    async def tell(agents: Agents) -> None:
        assert (await refused(locked(agents))).code == "DRILL_DISABLED"
        assert not (await agents.facts("mail1")).enabled

    story(off, tell)


# ---- who may ask, and what -------------------------------------------------------------------------------------------


def test_nobody_but_a_member_is_answered(cluster: Cluster, tmp_path: Path) -> None:
    own = cluster.configs["mail1"].peer
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").node("mail2")
    member = Authority(cluster.place, "second").node("mail9")

    async def tell(_: Agents) -> None:
        async with client(cluster, certificate=stranger.certificate, key=stranger.key) as outside:
            with pytest.raises(httpx.HTTPError):
                await outside.put("/v1/lock", json=LOCKED)
        async with client(cluster, certificate=member.certificate, key=member.key) as outside:
            with pytest.raises(httpx.HTTPError):
                await outside.put("/v1/lock", json=LOCKED)
        nobody = ssl.create_default_context(cafile=own.ca)
        mail1 = cluster.configs["mail1"]
        async with httpx.AsyncClient(verify=nobody, trust_env=False) as outside:
            with pytest.raises(httpx.HTTPError):
                await outside.get(f"https://{mail1.this.address}:{mail1.drill.port}/v1/facts")

    story(cluster, tell)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/v1/lock", b"{", 400),
        ("PUT", "/v1/lock", b'{"id": "../../etc", "by": "anna", "node": "mail2"}', 400),
        ("PUT", "/v1/lock", b'{"id": "20261129-020000-switchover", "by": "a", "node": "b", "more": 1}', 400),
        ("PUT", "/v1/fault", b'{"drill": "x", "scenario": "y"}', 400),
        ("POST", "/v1/jobs", b'{"drill": "%s", "kind": "rm", "arguments": {}}' % DRILL.encode(), 400),
        ("POST", "/v1/jobs", b'{"drill": "%s", "kind": "clean", "arguments": []}' % DRILL.encode(), 400),
        ("POST", "/v1/jobs", b'{"drill": "%s", "kind": "clean", "arguments": {}}' % OTHER.encode(), 409),
        ("GET", "/v1/jobs/none", b"", 404),
        ("DELETE", "/v1/jobs/none", b"", 404),
        ("PUT", "/v1/reports/..", b'{"state": "", "report": "", "page": ""}', 404),
        ("PUT", "/v1/reports/%2e%2e", b'{"state": "", "report": "", "page": ""}', 400),
        ("GET", "/v1/lock", b"", 405),
        ("GET", "/", b"", 404),
    ],
)
def test_what_is_not_understood_changes_nothing(
    cluster: Cluster, method: str, path: str, body: bytes, status: int
) -> None:
    async def tell(agents: Agents) -> None:
        await locked(agents)
        async with client(cluster) as other:
            answer = await other.request(method, path, content=body)
            assert answer.status_code == status, answer.text
        facts = await agents.facts("mail1")
        assert (facts.drill, facts.fault) == (DRILL, False)

    story(cluster, tell)
    assert not any(path.suffix for path in cluster.place.glob("mail1/**/*"))


def test_a_report_of_some_megabytes_is_kept_and_one_of_any_size_is_not(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        text = "é" * 5_000_000
        await agents.keep("mail1", DRILL, state="{}\n", report=text, page="<p>")
        place = cluster.state("mail1") / DIRECTORY / DRILL
        assert {path.name: path.read_text() for path in place.iterdir()} == {STATE: "{}\n", REPORT: text, PAGE: "<p>"}
        await agents.keep("mail1", DRILL, state="{}", report="second", page="")
        assert (place / REPORT).read_text() == "second"
        error = await refused(agents.keep("mail1", DRILL, state="", report="x" * (65 << 20), page=""))
        assert error.code == "DRILL_NO_AGENT"
        assert (place / REPORT).read_text() == "second"

    story(cluster, tell)


def test_a_node_tells_what_it_is_and_what_it_allows(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        facts = await agents.facts("mail1")
        assert (facts.node, facts.enabled, facts.faults) == ("mail1", True, SCENARIOS)
        assert (facts.drill, facts.fault, facts.frozen_ok) == ("", False, "")
        assert facts.free_bytes
        assert facts.digest

    story(cluster, tell)


# ---- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_is_told_lines_and_tells_lines_and_each_reader_gets_all_of_them(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/failoverd-drill-agent.service")

    async def tell(agents: Agents) -> None:
        job = await begun(agents, "echo", "audit")
        await job.tell({"one": 1})
        assert await job.progress() == {"one": 1}
        await job.tell({"text": "ü"})
        await job.tell({"end": True})
        said: list[str] = []
        done = await job.result(dict, said.append)
        assert done == {"kind": "audit", "environment": ["CREDENTIALS_DIRECTORY", "LANG", "PATH", "PYTHONUNBUFFERED"]}
        assert said == ["mail1: ü"]
        again = [line async for line in agents.stream("mail1", job.path)]
        assert again == [{"progress": {"one": 1}}, {"progress": {"text": "ü"}}, {"done": done}]
        await job.tell({"late": True})  # it has ended, and hears nothing

    story(cluster, tell)


def test_a_stream_of_nothing_new_has_an_empty_line_a_second(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        job = await begun(agents, "echo")
        async with client(cluster) as other, other.stream("GET", job.path) as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            assert await anext(answer.aiter_raw()) == b"\n"

    story(cluster, tell)


@pytest.mark.parametrize(
    ("what", "code", "reason"),
    [
        ("fail", "DRILL_SPACE", "mail1: there is no room"),
        ("end without a word", "DRILL_BUG", "mail1: tables ended without a word: exit code 3"),
        ("crash", "DRILL_BUG", "mail1: tables ended without a word: signal 9"),
        ("flood", "DRILL_BUG", "mail1: tables said more than 128 MB: it was ended"),
        ("never end a line", "DRILL_BUG", "mail1: tables said more than 128 MB: it was ended"),
    ],
)
def test_a_job_that_does_not_do_it_has_failed_and_says_how(cluster: Cluster, what: str, code: str, reason: str) -> None:
    async def tell(agents: Agents) -> None:
        job = await begun(agents, what)
        error = await refused(job.result(dict, lambda _: None))
        assert (error.code, error.reason) == (code, reason)
        assert (await agents.facts("mail1")).drill == DRILL  # the agent lives, and has time for others

    story(cluster, tell)


@pytest.mark.parametrize("what", ["crash", "leave a child"])
def test_nothing_of_a_job_that_has_ended_goes_on(cluster: Cluster, what: str) -> None:
    async def tell(agents: Agents) -> None:
        job = await begun(agents, what)
        child = int((await job.progress())["child"])
        await until(lambda: not runs(child), "its child to be gone")

    story(cluster, tell)


def test_a_job_is_ended_with_all_that_it_has_started(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        job = await begun(agents, "obey")
        child = int((await job.progress())["child"])
        async with client(cluster) as other:
            for _ in range(2):
                assert (await other.delete(job.path)).status_code == 204
        assert not runs(child)
        assert "ended without a word: signal 15" in (await refused(job.progress())).reason

    story(cluster, tell)


def test_a_job_that_obeys_nobody_is_killed_and_does_not_keep_the_fault(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        job = await begun(agents, "hang")
        children = (await job.progress())["children"]
        await agents.inject("mail1", DRILL, "service-hang", CAST)
        releasing = asyncio.ensure_future(agents.release("mail1", DRILL))
        await until(lambda: not cluster.host("mail1").drill(), "the fault to be gone")
        assert all(map(runs, children))
        await releasing
        assert not any(map(runs, children))

    story(cluster, tell, term_s=1.0)


def test_a_node_that_is_not_there_is_known_as_one_long_before_a_fault_may_take(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a node without power looks like from another network: nobody says that it is not there."""
    monkeypatch.setattr(calls, "ASK_S", 0.2)
    config = cluster.configs["mail2"]
    place = next(node.address for name, node in config.nodes.items() if name == "mail1"), config.drill.port
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(place, backlog=0))
        stack.enter_context(socket.create_connection(full.getsockname()))  # whoever comes next gets no answer

        async def ask() -> DrillError:
            async with Agents(config) as agents, asyncio.timeout(calls.FAULT_S / 10):
                return await refused(agents.undo("mail1", DRILL))

        assert asyncio.run(ask()).code == "DRILL_NO_AGENT"


# ---- the fault -------------------------------------------------------------------------------------------------------


def test_a_fault_is_brought_about_and_taken_away(cluster: Cluster) -> None:
    async def tell(agents: Agents) -> None:
        await locked(agents)
        fault = await agents.inject("mail1", DRILL, "service-hang", CAST)
        assert fault.node == "mail1"
        assert fault.words == f"{UNIT} on mail1 hangs"
        assert (await agents.facts("mail1")).fault
        assert (await refused(agents.inject("mail1", DRILL, "service-hang", CAST))).code == "DRILL_RUNNING"
        for _ in range(2):
            await agents.undo("mail1", DRILL)
            assert not (await agents.facts("mail1")).fault

    story(cluster, tell)
    assert fault_asked(cluster) == [
        "start failoverd-fault.service",
        f"kill --kill-whom=all --signal=SIGSTOP {UNIT}",
        "stop failoverd-fault.service",
        f"kill --kill-whom=all --signal=SIGCONT {UNIT}",
    ]


def test_a_fault_that_cannot_be_brought_about_is_taken_back(cluster: Cluster) -> None:
    (cluster.place / "active" / UNIT).unlink()  # nothing runs that could be stopped

    async def tell(agents: Agents) -> None:
        await locked(agents)
        error = await refused(agents.inject("mail1", DRILL, "service-hang", CAST))
        assert error.code == "DRILL_INJECT_FAILED"
        assert "could not be brought about: Job for failoverd-fault.service failed" in error.reason
        assert not (await agents.facts("mail1")).fault

    story(cluster, tell)
    assert "start dovecot.service" in cluster.asked()


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("disk-failure", "DRILL_INJECT_FAILED"),
        ("no-such", "DRILL_DISABLED"),
        ("switchover", "DRILL_INJECT_FAILED"),
    ],
)
def test_a_fault_that_this_node_has_not_is_not_brought_about(cluster: Cluster, scenario: str, code: str) -> None:
    async def tell(agents: Agents) -> None:
        await locked(agents)
        assert (await refused(agents.inject("mail1", DRILL, scenario, CAST))).code == code

    story(cluster, tell)
    assert cluster.asked() == []


def test_a_fault_needs_the_lock_and_the_nodes_leave(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Cluster(config_file, tmp_path, {"allow": ["service-hang"]})
    monkeypatch.setenv("PATH", some.path())

    async def tell(agents: Agents) -> None:
        assert (await refused(agents.inject("mail1", DRILL, "service-hang", CAST))).code == "DRILL_RUNNING"
        await locked(agents, OTHER)
        assert (await refused(agents.inject("mail1", DRILL, "service-hang", CAST))).code == "DRILL_RUNNING"
        assert (await refused(agents.inject("mail1", OTHER, "database-crash", CAST))).code == "DRILL_DISABLED"

    story(some, tell)
    assert some.asked() == []


def test_an_agent_that_is_started_again_takes_away_what_is_there_before_it_answers(cluster: Cluster) -> None:
    async def first(agents: Agents) -> None:
        await locked(agents)
        fault = await agents.inject("mail1", DRILL, "service-hang", CAST)
        cluster.host("mail1").take(fault)
        cluster.host("mail1").bring(fault, OTHER)  # of an agent that was killed
        assert cluster.host("mail1").drill() == OTHER

    story(cluster, first)

    async def second(agents: Agents) -> None:
        facts = await agents.facts("mail1")
        assert (facts.drill, facts.fault) == ("", False)

    story(cluster, second)
    assert not (cluster.place / "active" / "failoverd-fault.service").exists()


def test_an_agent_that_ends_takes_everything_with_it(cluster: Cluster) -> None:
    children: list[int] = []

    async def tell(agents: Agents) -> None:
        job = await begun(agents, "obey")
        children.append(int((await job.progress())["child"]))
        await agents.inject("mail1", DRILL, "service-hang", CAST)

    story(cluster, tell)
    assert not any(map(runs, children))
    assert cluster.host("mail1").drill() == ""
    assert any("--signal=SIGCONT" in line for line in cluster.asked())
