"""Drills that are conducted against real agents: how they pass, and how each phase that cannot go on ends."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from control_stage import me
from drill_agent_stage import DRILL, OTHER, UNIT, until
from drill_coordinator_stage import ME, Conducted, quick

from failoverd.drill import comparing, coordinator, counting, recover
from failoverd.drill.calls import Agents
from failoverd.drill.model import PhaseName
from failoverd.drill.report import kept
from failoverd.drill_files import CURRENT, DIRECTORY, LAST, PAGE, REPORT, STATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

ASKED = Conducted.ASKED
LOADED = replace(ASKED, users=2, duration_s=1)
PHASES = tuple(PhaseName)


@pytest.fixture
def cluster(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conducted:
    made = Conducted(config_file, tmp_path)
    quick(monkeypatch, made)
    return made


def story(cluster: Conducted, tell: Callable[[], Awaitable[None]], **limits: float) -> None:
    """Run all agents and the daemon, and beside them what `tell` does."""

    async def told() -> None:
        async with cluster.up(**limits), asyncio.timeout(40):
            await tell()

    asyncio.run(told())


async def all_given_back(cluster: Conducted) -> None:
    """Nothing of a drill is on any node, and the next one may begin."""
    assert cluster.fault() == ""
    async with Agents(cluster.configs[ME]) as agents:
        assert set(await cluster.locks(agents)) == {""}
    assert cluster.drill().clean
    assert not (cluster.state(ME) / DIRECTORY / CURRENT).exists()


def silent(cluster: Conducted, name: str) -> socket.socket:
    """In the place of a node's agent, somebody who takes connections and says nothing."""
    config = cluster.configs[name]
    return socket.create_server((config.this.address, config.drill.port))


# ---- to the end ------------------------------------------------------------------------------------------------------


def test_a_drill_goes_through_all_phases_and_leaves_its_evidence_on_every_node(cluster: Conducted) -> None:
    async def tell() -> None:
        assert await cluster.conduct(LOADED) == "passed", cluster.drill()
        await all_given_back(cluster)

    story(cluster, tell)
    drill = cluster.drill()
    assert [(phase.name, phase.outcome) for phase in drill.phases] == [(name, "passed") for name in PHASES]
    assert cluster.result(PhaseName.BACKUP).facts["node"] == "mail3"  # no primary, and not the heir
    assert cluster.result(PhaseName.INJECT).facts["fault"] == f"{UNIT} on mail1 hangs"
    assert cluster.result(PhaseName.OBSERVE).facts["primary"] == "mail2"
    assert cluster.result(PhaseName.CONSISTENCY).facts["acknowledged"] == 2
    signals = [line.split()[2] for line in cluster.asked() if "--signal" in line]
    assert signals[0] == "--signal=SIGSTOP"
    assert set(signals[1:]) == {"--signal=SIGCONT"}
    stages = [order["stage"] for order in map(json.loads, cluster.lines("orders")) if "stage" in order]
    assert stages == ["fault", "load"]
    assert ("acknowledge", me(), f"drill {DRILL}, begun by anna") in cluster.daemon.asked
    assert "clean mail2" in cluster.lines("jobs")
    for name in ("mail1", "mail2", "mail3", "arbiter"):
        place = cluster.state(name) / DIRECTORY / DRILL
        report = kept.read(place / REPORT)
        assert (report.drill.outcome, report.drill.clean, len(report.audit)) == ("passed", True, 4)
        assert report.consistency is not None
        assert (place / PAGE).read_text().startswith("<!doctype html>")
    assert json.loads((cluster.state(ME) / DIRECTORY / LAST).read_text())["id"] == DRILL


@pytest.mark.parametrize("away", [False, True])
def test_servers_are_asked_what_they_counted_while_the_load_runs(
    away: bool, cluster: Conducted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is away meanwhile, and is asked about all of it at the end."""
    monkeypatch.setattr(counting, "EVERY_S", 0.1)
    if away:
        cluster.jobs(counters_mail1={"failed": {"code": "DRILL_BUG", "reason": "away"}})

    def asked(node: str) -> int:
        return cluster.lines("jobs").count(f"counters {node}")

    async def tell() -> None:
        async with cluster.conducting(replace(LOADED, duration_s=3)) as (running, _):
            await until(lambda: min(asked("mail1"), asked("mail2")) > 1, "the nodes to be asked", 20)
            cluster.jobs()
            assert await running == "passed", cluster.drill()

    story(cluster, tell)
    report = kept.read(cluster.place_of() / REPORT)
    assert [(one.name, one.servers) for one in report.counters][:2] == [("IMAP logins", 2), ("messages submitted", 1)]
    assert cluster.lines("jobs").index("counters mail2") < cluster.lines("jobs").index("mailboxes mail1")


def test_a_switchover_is_asked_of_the_daemon_and_breaks_nothing(cluster: Conducted) -> None:
    async def tell() -> None:
        assert await cluster.conduct(replace(ASKED, scenario="switchover")) == "passed", cluster.drill()
        await all_given_back(cluster)

    story(cluster, tell)
    assert ("mail2", me(), f"drill {DRILL}, begun by anna") in cluster.daemon.asked
    assert not [line for line in cluster.asked() if "failoverd-fault" in line]
    assert cluster.drill().fault is None


def test_a_role_that_has_to_stay_stays(cluster: Conducted) -> None:
    async def tell() -> None:
        assert await cluster.conduct(replace(ASKED, scenario="arbiter-loss")) == "passed", cluster.drill()
        await all_given_back(cluster)

    story(cluster, tell)
    assert cluster.result(PhaseName.OBSERVE).facts["primary"] == "mail1"
    assert not (cluster.place / "table").exists()


def test_a_role_that_moves_where_it_has_to_stay_is_a_wrong_end(cluster: Conducted) -> None:
    cluster.daemon.astray = True

    async def tell() -> None:
        assert await cluster.conduct(replace(ASKED, scenario="arbiter-loss")) == "failed"
        await all_given_back(cluster)

    story(cluster, tell)
    assert cluster.drill().code == "DRILL_WRONG_END"
    assert cluster.result(PhaseName.OBSERVE).reason == "mail2 is primary in term 8: the role had to stay"
    assert not (cluster.place / "table").exists()


# ---- each phase's limit ----------------------------------------------------------------------------------------------

OF_LOAD = {PhaseName.BASELINE, PhaseName.LOAD}
FEW_S = {  # what is added to a limit of the configuration or of the request is taken off here
    PhaseName.BACKUP: -119.5,
    PhaseName.LOAD: -0.5,
}


@pytest.mark.parametrize(
    ("phase", "code", "words"),
    [
        (PhaseName.BACKUP, "DRILL_BACKUP_FAILED", "backup: not done within"),
        (PhaseName.BASELINE, "DRILL_LOAD_FAILED", "0 of 2 users are logged in"),
        (PhaseName.INJECT, "DRILL_INJECT_FAILED", "inject: not done within"),
        (PhaseName.OBSERVE, "DRILL_NOT_SEEN", "observe: not done within 0 s: the cluster has not noticed the fault"),
        (PhaseName.LOAD, "DRILL_PHASE_TIMEOUT", "load: not done within"),
        (PhaseName.RECOVER, "DRILL_UNDO_FAILED", "recover: not done within"),
        (PhaseName.REJOIN, "DRILL_NOT_HOME", "rejoin: not done within 0 s: mail1 is silent"),
        (PhaseName.CONSISTENCY, "DRILL_PHASE_TIMEOUT", "consistency: not done within"),
    ],
)
def test_a_phase_that_takes_too_long_is_ended_named_and_undone(
    phase: PhaseName, code: str, words: str, cluster: Conducted, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {**coordinator.LIMITS_S, phase: FEW_S.get(phase, 0.4)}
    monkeypatch.setattr(coordinator, "LIMITS_S", limits)
    stuck_in(cluster, phase)

    async def tell() -> None:
        async with cluster.conducting(LOADED if phase in OF_LOAD else ASKED) as (running, _):
            await until(lambda: phase in ended(cluster), f"{phase} to end", 8)
            unstuck(cluster)
            if phase is PhaseName.REJOIN:
                limits[phase] = 10
            assert await running == "failed"
        await all_given_back(cluster)

    story(cluster, tell)
    drill = cluster.drill()
    assert (drill.code, cluster.result(phase).code, cluster.result(phase).outcome) == (code, code, "failed")
    assert words in drill.reason
    assert drill.phases[-2].name is phase  # and then only the report
    assert kept.read(cluster.place_of() / REPORT).drill.code == code


def ended(cluster: Conducted) -> list[PhaseName]:
    """The phases that are over, by what lies on disk."""
    if not (cluster.place_of() / STATE).exists():
        return []
    return [phase.name for phase in cluster.drill().phases if phase.outcome != "under-way"]


def stuck_in(cluster: Conducted, phase: PhaseName) -> None:
    """Have a drill wait in this phase."""
    match phase:
        case PhaseName.BACKUP:
            cluster.jobs(backup="hang")
        case PhaseName.BASELINE:
            cluster.load(sessions=0)
        case PhaseName.INJECT:
            cluster.wait_for("start failoverd-fault")
        case PhaseName.OBSERVE:
            cluster.daemon.blind = True
        case PhaseName.RECOVER:
            cluster.wait_for("stop failoverd-fault")
        case PhaseName.REJOIN:
            cluster.daemon.homeless = True
        case PhaseName.CONSISTENCY:
            cluster.jobs(tables="hang")


def unstuck(cluster: Conducted) -> None:
    """Have it wait no more."""
    cluster.wait_for("")
    cluster.daemon.homeless = False


def test_a_preflight_that_takes_too_long_has_touched_nothing(
    cluster: Conducted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "LIMITS_S", {**coordinator.LIMITS_S, PhaseName.PREFLIGHT: 0.5})

    async def tell() -> None:
        await cluster.agent_down("mail3")
        with silent(cluster, "mail3"):
            assert await cluster.conduct() == "skipped"
        await all_given_back(cluster)

    story(cluster, tell)
    assert cluster.drill().code == "DRILL_PHASE_TIMEOUT"
    assert cluster.drill().reason == "preflight: not done within 0 s"
    assert cluster.daemon.asked == []


def test_a_report_that_a_node_does_not_take_is_here_and_the_drill_has_passed(
    cluster: Conducted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "LIMITS_S", {**coordinator.LIMITS_S, PhaseName.REPORT: 0.5})

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Agents, "keep", never)

    async def tell() -> None:
        assert await cluster.conduct() == "passed"
        await all_given_back(cluster)

    story(cluster, tell)
    assert cluster.result(PhaseName.REPORT).code == "DRILL_PHASE_TIMEOUT"
    assert "report: not done within 0 s" in cluster.drill().notes[-1].text
    assert kept.read(cluster.place_of() / REPORT).drill.outcome == "passed"


# ---- abort -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase not in {PhaseName.PREFLIGHT, PhaseName.REPORT}])
def test_a_drill_that_is_aborted_takes_everything_back(phase: PhaseName, cluster: Conducted) -> None:
    stuck_in(cluster, phase)

    async def tell() -> None:
        async with cluster.conducting(replace(LOADED, duration_s=60) if phase in OF_LOAD else ASKED) as (
            running,
            agents,
        ):
            await cluster.until_phase(phase)
            assert set(await cluster.locks(agents)) == {DRILL}
            assert cluster.conductor is not None
            cluster.conductor.abort()
            await until(lambda: phase in ended(cluster), f"{phase} to end", 8)
            unstuck(cluster)
            assert await running == "aborted"
        await all_given_back(cluster)

    story(cluster, tell)
    drill = cluster.drill()
    assert (drill.code, drill.reason) == ("DRILL_ABORTED", "somebody ended it")
    assert (cluster.result(phase).outcome, cluster.result(phase).code) == ("aborted", "DRILL_ABORTED")
    assert [one.name for one in drill.phases[-2:]] == [phase, PhaseName.REPORT]
    assert kept.read(cluster.place_of() / REPORT).drill.outcome == "aborted"
    assert not (cluster.state(ME) / DIRECTORY / LAST).exists()


def test_an_abort_while_all_is_taken_back_breaks_nothing_off(cluster: Conducted) -> None:
    cluster.jobs(audit="hang")

    async def tell() -> None:
        async with cluster.conducting() as (running, _):
            await until(lambda: "audit mail1" in cluster.lines("jobs"), "everything to be taken back", 20)
            assert cluster.conductor is not None
            cluster.conductor.abort()
            cluster.conductor.abort()
            cluster.jobs()
            await cluster.agent_down("mail1")  # what its job would say never comes
            await cluster.agent_up("mail1")
            assert await running == "passed"
        await all_given_back(cluster)

    story(cluster, tell)
    assert "the audit of mail1 is not in the report" in " ".join(note.text for note in cluster.drill().notes)


def test_an_abort_in_preflight_leaves_no_lock(cluster: Conducted) -> None:
    async def tell() -> None:
        await cluster.agent_down("arbiter")  # the last that is asked for its lock
        with silent(cluster, "arbiter"):
            async with cluster.conducting() as (running, _):
                await cluster.until_phase(PhaseName.PREFLIGHT)
                assert cluster.conductor is not None
                cluster.conductor.abort()
                assert await running == "aborted"
        await all_given_back(cluster)

    story(cluster, tell)
    assert cluster.result(PhaseName.PREFLIGHT).code == "DRILL_ABORTED"


# ---- what goes wrong on a node ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "phase", "code"),
    [
        ({"backup": "DRILL_SPACE"}, PhaseName.BACKUP, "DRILL_SPACE"),
        ({"backup": "DRILL_BACKUP_UNVERIFIED"}, PhaseName.BACKUP, "DRILL_BACKUP_UNVERIFIED"),
        ({"tables_mail3": "DRILL_BUG"}, PhaseName.CONSISTENCY, "DRILL_BUG"),
        ({"mailboxes_mail3": "DRILL_DISK"}, PhaseName.CONSISTENCY, "DRILL_DISK"),
    ],
)
def test_a_job_that_fails_fails_its_phase(
    said: dict[str, str], phase: PhaseName, code: str, cluster: Conducted
) -> None:
    cluster.jobs(**{kind: {"failed": {"code": value, "reason": "no"}} for kind, value in said.items()})

    async def tell() -> None:
        assert await cluster.conduct() == "failed"
        await all_given_back(cluster)

    story(cluster, tell)
    assert (cluster.drill().code, cluster.result(phase).code) == (code, code)
    assert cluster.drill().reason == "mail3: no"
    assert ("start failoverd-fault.service" in cluster.asked()) == (phase is PhaseName.CONSISTENCY)


def test_a_job_that_says_what_is_not_understood_fails_its_phase(cluster: Conducted) -> None:
    cluster.jobs(mailboxes_mail3={"done": {"node": "mail3"}})

    async def tell() -> None:
        assert await cluster.conduct() == "failed"
        await all_given_back(cluster)

    story(cluster, tell)
    assert (cluster.drill().code, cluster.result(PhaseName.CONSISTENCY).code) == ("DRILL_NO_AGENT", "DRILL_NO_AGENT")
    assert cluster.drill().reason.startswith("mail3 (another version of failoverd?): 3 validation errors")


def test_a_mistake_of_failoverds_own_is_named_and_everything_is_taken_back(
    cluster: Conducted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object) -> object:
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr(comparing, "consistency", mistaken)

    async def tell() -> None:
        assert await cluster.conduct() == "failed"
        await all_given_back(cluster)

    story(cluster, tell)
    assert (cluster.drill().code, cluster.result(PhaseName.CONSISTENCY).code) == ("DRILL_BUG", "DRILL_BUG")
    assert cluster.drill().reason == "ZeroDivisionError: of nothing"
    assert any("Traceback" in line for line in cluster.told)


def test_a_fault_that_cannot_be_brought_about_is_named_and_nothing_is_left(cluster: Conducted) -> None:
    (cluster.place / "active" / UNIT).unlink()  # nothing runs that could be stopped

    async def tell() -> None:
        assert await cluster.conduct() == "failed"
        await all_given_back(cluster)

    story(cluster, tell)
    assert cluster.result(PhaseName.INJECT).code == cluster.drill().code == "DRILL_INJECT_FAILED"
    assert "could not be brought about" in cluster.drill().reason
    assert cluster.drill().phases[-1].name is PhaseName.REPORT


def test_a_fault_that_stays_is_told_and_the_drill_is_not_clean_until_it_is_gone(
    cluster: Conducted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        coordinator, "LIMITS_S", {**coordinator.LIMITS_S, PhaseName.RECOVER: 1.0, PhaseName.REJOIN: 1.0}
    )
    cluster.daemon.blind = True

    async def tell() -> None:
        async with cluster.conducting() as (running, agents):
            await cluster.until_phase(PhaseName.OBSERVE)
            cluster.refuse("is-active")  # so it is not seen to be gone
            cluster.daemon.blind = False
            assert await running == "failed"
            drill = cluster.drill()
            assert (drill.code, drill.clean) == ("DRILL_UNDO_FAILED", False)
            assert "is-active" in drill.reason
            loud = [note.text for note in drill.notes if note.code == "DRILL_UNDO_FAILED"]
            assert any(text.startswith("something of the drill may be left: mail1") for text in loud)
            assert (await agents.facts("mail1")).drill == DRILL  # no other drill begins on it
            evidence = kept.read(cluster.place_of() / REPORT)
            assert not evidence.drill.clean
            cluster.refuse("")
            assert await again(cluster)
        await all_given_back(cluster)
        made = kept.read(cluster.place_of() / REPORT)
        assert made == replace(evidence, drill=made.drill)  # what was found is kept
        assert made.drill.clean
        assert made.drill.code == "DRILL_UNDO_FAILED"

    story(cluster, tell)


async def again(cluster: Conducted) -> bool:
    """Clear up, as systemd has it done."""
    socket = cluster.runtime / "control.sock"
    return await recover.recover(cluster.configs[ME], cluster.state(ME), socket, cluster.told.append)


def test_a_node_that_falls_silent_ends_the_drill_which_is_clean_once_it_answers(
    cluster: Conducted, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.daemon.blind = True
    monkeypatch.setattr(recover, "RELEASE_S", 1.0)

    async def tell() -> None:
        async with cluster.conducting() as (running, _):
            await cluster.until_phase(PhaseName.OBSERVE)
            await cluster.agent_down("mail3")
            assert await running == "failed"
        drill = cluster.drill()
        assert (drill.code, drill.clean) == ("DRILL_NO_AGENT", False)
        assert drill.reason.startswith("mail3: ")
        assert cluster.result(PhaseName.OBSERVE).code == "DRILL_NO_AGENT"
        assert cluster.fault() == ""
        assert not await again(cluster)  # it still does not answer
        assert (cluster.state(ME) / DIRECTORY / CURRENT).read_text().strip() == DRILL
        phases = cluster.drill().phases
        await cluster.agent_up("mail3")
        assert await again(cluster)
        assert cluster.drill().phases == phases  # to look again is no phase of the drill
        await all_given_back(cluster)

    story(cluster, tell)
    assert kept.read(cluster.state("mail3") / DIRECTORY / DRILL / REPORT).drill.clean


def test_the_node_that_is_hit_may_be_silent_until_it_is_asked_for_its_fault(cluster: Conducted) -> None:
    cluster.daemon.blind = True  # for as long as it takes to be silent

    async def tell() -> None:
        async with cluster.conducting() as (running, _):
            await cluster.until_phase(PhaseName.OBSERVE)
            cluster.daemon.blind, cluster.daemon.moved = False, True
            await cluster.agent_down("mail1")
            await cluster.until_phase(PhaseName.RECOVER)
            await cluster.agent_up("mail1")
            assert await running == "passed", cluster.drill()
        await all_given_back(cluster)

    story(cluster, tell)


def test_a_daemon_that_is_started_again_does_not_end_the_drill(cluster: Conducted) -> None:
    cluster.daemon.blind = True

    async def tell() -> None:
        async with cluster.conducting() as (running, _):
            await cluster.until_phase(PhaseName.OBSERVE)
            await cluster.daemon_down()
            await until(lambda: "does not answer" in waits(cluster), "it to be missed")
            await cluster.daemon_up()
            cluster.daemon.blind = False
            assert await running == "passed", cluster.drill()
        await all_given_back(cluster)

    story(cluster, tell)


def waits(cluster: Conducted) -> str:
    assert cluster.conductor is not None
    return cluster.conductor._waits  # it says so nowhere else before the limit


# ---- what is on disk -------------------------------------------------------------------------------------------------


def test_what_is_about_to_be_done_is_on_disk_before_it_is_done(cluster: Conducted) -> None:
    cluster.wait_for("start failoverd-fault")

    async def tell() -> None:
        async with cluster.conducting() as (running, _):
            await until(lambda: "start failoverd-fault.service" in cluster.asked(), "the fault to be asked for", 20)
            drill = cluster.drill()
            assert drill.phases[-1].name is PhaseName.INJECT
            assert drill.fault is not None
            assert drill.fault.words == f"{UNIT} on mail1 hangs"
            assert (cluster.state(ME) / DIRECTORY / CURRENT).read_text().strip() == DRILL
            cluster.wait_for("")
            assert await running == "passed"

    story(cluster, tell)


# ---- two at once -----------------------------------------------------------------------------------------------------


def test_a_second_drill_is_refused_and_does_not_disturb_the_first(cluster: Conducted) -> None:
    cluster.daemon.blind = True

    async def tell() -> None:
        async with cluster.conducting() as (running, agents):
            await cluster.until_phase(PhaseName.OBSERVE)
            asked = list(cluster.daemon.asked)
            assert await cluster.conduct(replace(ASKED, id=OTHER, scenario="switchover")) == "skipped"
            assert cluster.daemon.asked == asked
            assert set(await cluster.locks(agents)) == {DRILL}
            cluster.daemon.blind = False
            assert await running == "passed"

    story(cluster, tell)
    second = json.loads((cluster.place_of(OTHER) / REPORT).read_text())["drill"]
    assert (second["code"], second["outcome"]) == ("DRILL_RUNNING", "skipped")
    assert f"mail1 is in drill {DRILL}" in second["reason"]


def test_one_that_begins_at_the_same_moment_gives_back_what_it_took(
    cluster: Conducted, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Agents.lock

    async def late(self: Agents, node: str, drill: str, by: str, coordinator: str) -> None:
        if node == "mail3":  # by then another one has it, which preflight had not seen
            await lock(self, node, OTHER, "bert", "mail3")
        await lock(self, node, drill, by, coordinator)

    monkeypatch.setattr(Agents, "lock", late)

    async def tell() -> None:
        assert await cluster.conduct() == "skipped"
        async with Agents(cluster.configs[ME]) as agents:
            assert await cluster.locks(agents) == ["", "", OTHER, ""]

    story(cluster, tell)
    assert cluster.drill().code == "DRILL_RUNNING"
    assert cluster.daemon.asked == []


# ---- preflight -------------------------------------------------------------------------------------------------------


def test_all_reasons_are_told_at_once_and_nothing_is_touched(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Conducted(config_file, tmp_path, {"window": "03:00-04:00", "allow": ["switchover"]})
    quick(monkeypatch, cluster)
    lag: Any = replace(cluster.daemon.status().nodes[2].database, replication=None)
    cluster.daemon.of_nodes["mail3"] = {"database": lag}
    cluster.daemon.changes["paused"] = "bert: moving the rack"
    cluster.daemon.changes["unproven"] = "no replica acknowledges"
    cluster.jobs()

    async def tell() -> None:
        await cluster.agent_down("arbiter")
        await cluster.agent_down("mail3")
        assert await cluster.conduct() == "skipped"

    story(cluster, tell)
    drill = cluster.drill()
    assert drill.code == "DRILL_DISABLED"
    assert drill.reason.split("; ")[:7] == [
        "drill.allow does not name service-hang",
        "DRILL_WINDOW: it is 02:30",
        "drills are allowed 03:00-04:00",
        "DRILL_NOT_FIT: RPO unproven: no replica acknowledges",
        "DRILL_MAINTENANCE: paused by bert: moving the rack",
        "DRILL_LAG: how far mail3 is behind is not known",
        "DRILL_NO_AGENT: mail3: All connection attempts failed",
    ]
    assert "DRILL_NO_AGENT: arbiter: All connection attempts failed" in drill.reason
    assert [phase.name for phase in drill.phases] == [PhaseName.PREFLIGHT, PhaseName.REPORT]
    assert cluster.asked() == cluster.lines("jobs") == cluster.daemon.asked == []


def test_a_scenario_that_is_none_is_refused(cluster: Conducted) -> None:
    async def tell() -> None:
        assert await cluster.conduct(replace(ASKED, scenario="meteorite")) == "skipped"

    story(cluster, tell)
    assert cluster.drill().code == "DRILL_DISABLED"
    assert cluster.drill().reason.startswith("meteorite is no scenario; scenarios are switchover, ")
