"""failoverctl drill against the daemon's own part of it, on a real control socket: what is asked for reaches the disk.

The coordinator is this test: it takes the request and writes the states that a drill goes through. Of systemd there is
what it was asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from control_stage import Running, Stage
from drill_stage import ASKED, DRILL
from mariadb_servers import wait_for
from node_certificates import Authority

from failoverd.actions.units import Units
from failoverd.config import load
from failoverd.config.drill import SCENARIOS, Drill
from failoverd.core.model import Outcome
from failoverd.ctl import drill as command
from failoverd.ctl import drill_plan
from failoverd.ctl.app import app
from failoverd.ctl.client import Client
from failoverd.ctl.exits import EPILOG, Exit
from failoverd.drill import main, model
from failoverd.drill.book import Book
from failoverd.drill.model import Asked, PhaseName
from failoverd.drill_files import CURRENT, DIRECTORY, REQUEST, STATE, UNIT
from failoverd.ports import Result as Ended
from failoverd.runtime import drilling as drilling_module
from failoverd.runtime.drilling import Drilling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from failoverd.config import Config

PROGRAM = [sys.executable, "-c", "from failoverd.ctl.app import main; main()"]
WITHIN_S = 20
REQUIRED = "service-death"


class Manager(Units):
    """What systemd was asked, and how it answers."""

    def __init__(self) -> None:
        super().__init__("unix:path=/nonexistent")
        self.asked: list[tuple[str, str]] = []
        self.answer = Ended(Outcome.SUCCEEDED)
        self.started = threading.Event()

    async def launch(self, unit: str, *, deadline_ms: int) -> Ended:
        """Note it."""
        assert deadline_ms > 0
        self.asked.append(("start", unit))
        self.started.set()
        return self.answer

    async def end(self, unit: str, *, deadline_ms: int) -> Ended:
        """Note it."""
        assert deadline_ms > 0
        self.asked.append(("stop", unit))
        return self.answer


@pytest.fixture
def config(config_file: Path) -> Config:
    drill = Drill.model_validate({"enabled": True, "backup": {"kind": "none"}})
    return load(config_file, "mail3").model_copy(update={"drill": drill})


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def drilling(config: Config, manager: Manager, tmp_path: Path) -> Drilling:
    return Drilling(config, manager, tmp_path, tmp_path)


@pytest.fixture
def socket(drilling: Drilling, tmp_path: Path) -> Iterator[Path]:
    with Running(tmp_path / "control.sock", Stage(), drilling.control_routes()) as running:
        yield running.path
        running.call(drilling.forget)


def ctl(socket: Path, *arguments: str) -> Result:
    """Run failoverctl in this process."""
    return CliRunner().invoke(app, ["drill", *arguments, "--socket", str(socket)], prog_name="failoverctl")


def begun(socket: Path, manager: Manager, *arguments: str) -> subprocess.Popen[str]:
    """Begin one, and wait until systemd was asked for its unit."""
    line = [*PROGRAM, "drill", "run", *arguments, "--yes", "--socket", str(socket)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert manager.started.wait(WITHIN_S), process.communicate(timeout=WITHIN_S)
    return process


def taken(config: Config, tmp_path: Path) -> Book:
    """Be the coordinator that takes the request."""
    asked = main._asked(config, tmp_path, tmp_path)
    assert asked is not None
    return Book.opened(tmp_path, asked, config.cluster, lambda _: None)


def told(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=WITHIN_S)
    return process.returncode, out, errors


# ---- run ------------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_reaches_the_coordinator_and_its_end_the_terminal(
    socket: Path, manager: Manager, config: Config, tmp_path: Path
) -> None:
    process = begun(socket, manager, REQUIRED, "--load", "20", "--duration", "90s", "--reason", "third quarter")
    assert manager.asked == [("start", UNIT)]
    book = taken(config, tmp_path)
    asked = book.drill.asked
    assert not (tmp_path / REQUEST).exists(), "a request is taken once"
    assert (asked.scenario, asked.users, asked.duration_s, asked.reason) == (REQUIRED, 20, 90, "third quarter")
    assert (asked.backup, asked.scheduled) == ("none", False), "what is left out is the configuration's"
    book.begin(PhaseName.PREFLIGHT)
    book.note("the fault is there", "")
    book.end("passed")
    book.conclude("passed")
    book.close()
    code, out, errors = told(process)
    assert (code, errors) == (Exit.DONE, "")
    assert out.startswith(f"drill {asked.id} begins; it goes on when this terminal closes\n")
    assert "the fault is there" in out
    assert out.endswith("passed\n")


@pytest.mark.parametrize(
    ("outcome", "code", "ends"),
    [
        ("failed", "DRILL_LOST", Exit.FAILED),
        ("aborted", "DRILL_ABORTED", Exit.FAILED),
        ("skipped", "DRILL_LAG", Exit.REFUSED),
        ("failed", "DRILL_UNDO_FAILED", Exit.FAILED),
    ],
)
def test_how_it_ended_is_the_exit_code(
    ends_with: Callable[[model.Outcome, str], tuple[int, str, str]], outcome: model.Outcome, code: str, ends: Exit
) -> None:
    status, out, errors = ends_with(outcome, code)
    assert status == ends
    assert out.endswith(f"{outcome}: {code}: so it is\n")
    assert ("DRILL_UNDO_FAILED.md" in errors) is (code == "DRILL_UNDO_FAILED")


@pytest.fixture
def ends_with(
    socket: Path, manager: Manager, config: Config, tmp_path: Path
) -> Callable[[model.Outcome, str], tuple[int, str, str]]:
    """Let one begin, and end so; return what failoverctl came to."""

    def end(outcome: model.Outcome, code: str) -> tuple[int, str, str]:
        process = begun(socket, manager, REQUIRED)
        book = taken(config, tmp_path)
        book.begin(PhaseName.REPORT)
        book.conclude(outcome, code, "so it is")
        book.end("passed")
        if code != "DRILL_UNDO_FAILED":
            book.close()
        return told(process)

    return end


def test_ctrl_c_ends_the_look_and_not_the_drill(socket: Path, manager: Manager, config: Config, tmp_path: Path) -> None:
    process = begun(socket, manager, REQUIRED)
    book = taken(config, tmp_path)
    book.note("it goes on")
    assert process.stdout is not None
    assert "begins" in process.stdout.readline()
    assert "it goes on" in process.stdout.readline()
    process.send_signal(2)
    status, _, errors = told(process)
    assert status == Exit.UNCLEAR
    assert f"failoverctl drill abort ends {book.drill.asked.id}" in errors
    assert (tmp_path / DIRECTORY / CURRENT).exists()
    assert ("stop", UNIT) not in manager.asked


def test_one_of_which_nothing_is_heard_is_not_waited_for_for_ever(
    socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "BEGINS_S", 0.0)
    result = ctl(socket, "run", REQUIRED, "--yes")
    assert result.exit_code == Exit.UNCLEAR
    assert "journalctl -u failoverd-drill" in result.stderr


def test_nobody_agreed_and_nothing_was_done(socket: Path, manager: Manager, tmp_path: Path) -> None:
    result = ctl(socket, "run", REQUIRED)
    assert (result.exit_code, result.stderr) == (Exit.USAGE, "nothing was done\n")
    assert manager.asked == []
    assert not (tmp_path / REQUEST).exists()


@pytest.mark.parametrize("text", ["nights", "25:00-26:00", "01:00"])
def test_a_window_that_is_none_is_usage(socket: Path, manager: Manager, text: str) -> None:
    result = ctl(socket, "run", REQUIRED, "--yes", "--window", text)
    assert result.exit_code == Exit.USAGE
    assert "HH:MM-HH:MM" in result.stderr
    assert manager.asked == []


def test_without_a_daemon_none_begins(tmp_path: Path) -> None:
    for arguments in (["run", REQUIRED, "--yes"], ["list"], ["status"], ["abort"]):
        assert ctl(tmp_path / "none.sock", *arguments).exit_code == Exit.UNREACHABLE


# ---- --dry-run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def dry(socket: Path, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Ask for one on mail2, a replica, of nodes that are on loopback, where no agent answers."""
    files = Authority(tmp_path).node("mail2", "127.9.9.12")
    files.key.chmod(0o600)
    text = config_file.read_text()
    for key, value in (("ca", files.ca), ("certificate", files.certificate), ("key", files.key)):
        text = re.sub(rf"(?m)^  {key}: \S+$", f"  {key}: {value}", text, count=1)
    (tmp_path / "secret").write_text("drill-lab-password\n")
    (tmp_path / "secret").chmod(0o600)
    text = text.replace("enabled: false ", f"password_file: {tmp_path}/secret\n  enabled: true ", 1)
    config_file.write_text(text)

    def nearby(file: Path, node: str) -> Config:
        config = load(file, node)
        members = {
            name: member.model_copy(update={"address": member.address.replace("10.89.1.", "127.9.9.")})
            for name, member in config.members.items()
        }
        config = config.model_copy(update={"members": members})
        config.__dict__.pop("nodes", None)  # made of the members that it had before
        return config

    monkeypatch.setattr("socket.gethostname", lambda: "mail2")
    monkeypatch.setattr(drill_plan, "load", nearby)
    return lambda *more: ctl(socket, "run", *more, "--dry-run", "--config", str(config_file))


def test_a_dry_run_says_who_is_hit_by_what_and_all_that_is_against_it(
    dry: Callable[..., Result], manager: Manager, tmp_path: Path
) -> None:
    result = dry(REQUIRED, "--window", "always", "--load", "20")
    assert result.exit_code == Exit.REFUSED, result.output
    assert "primary     mail1; heir mail2; hit mail1; conducted from mail2" in result.stdout
    assert "systemctl kill --kill-whom=all --signal=SIGKILL dovecot.service" in result.stdout
    told_whys = re.findall(r"^  (DRILL_\w+)  (.*)$", result.stdout.partition("would be refused:")[2], re.MULTILINE)
    assert [code for code, _ in told_whys].count("DRILL_NO_AGENT") == 4
    assert ("DRILL_NO_ACCOUNTS", "drill.load.accounts_file is missing: nobody can be simulated") in told_whys
    assert manager.asked == []
    assert not (tmp_path / DIRECTORY).exists()


def test_whom_it_hits_is_not_chosen_but_for_one(dry: Callable[..., Result]) -> None:
    """Silently hitting another node than the one that was typed would be the worst of answers."""
    wrong = dry(REQUIRED, "--window", "always", "--load", "0", "--target", "mail3")
    assert "DRILL_DISABLED  service-death would hit mail1, and not mail3" in wrong.stdout
    right = dry("replication-break", "--window", "always", "--load", "0", "--target", "mail3")
    assert "hit mail3" in right.stdout
    assert "DRILL_DISABLED" not in right.stdout


def test_a_dry_run_without_a_configuration(socket: Path, tmp_path: Path) -> None:
    missing = ctl(socket, "run", REQUIRED, "--dry-run", "--config", str(tmp_path / "absent.yaml"))
    assert (missing.exit_code, "No such file" in missing.stderr) == (Exit.FAILED, True)


# ---- refused --------------------------------------------------------------------------------------------------------


def refused(socket: Path, code: str, text: str) -> None:
    result = ctl(socket, "run", REQUIRED, "--yes")
    assert result.exit_code == Exit.REFUSED
    assert f"  {code}  " in result.stderr
    assert text in result.stderr


def test_it_is_refused_where_no_drill_is_allowed_until_a_reload_allows_it(
    socket: Path, drilling: Drilling, config: Config, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    drilling.reload(config.model_copy(update={"drill": Drill()}))()
    refused(socket, "DRILL_DISABLED", "drill.enabled is false")
    assert manager.asked == []
    drilling.reload(config)()
    monkeypatch.setattr(command, "BEGINS_S", 0.0)
    assert ctl(socket, "run", REQUIRED, "--yes").exit_code == Exit.UNCLEAR
    assert manager.asked == [("start", UNIT)]


def test_a_second_one_is_refused_before_and_while_the_first_is_there(
    socket: Path, manager: Manager, config: Config, tmp_path: Path
) -> None:
    process = begun(socket, manager, REQUIRED)
    refused(socket, "DRILL_RUNNING", f"{UNIT} has not taken it yet")
    book = taken(config, tmp_path)
    refused(socket, "DRILL_RUNNING", f"{book.drill.asked.id} is under way, or has left something")
    assert manager.asked == [("start", UNIT)]
    book.conclude("passed")
    book.close()
    assert told(process)[0] == Exit.DONE


def test_a_unit_that_does_not_start_leaves_no_request_for_the_timer_to_find(
    socket: Path, manager: Manager, tmp_path: Path
) -> None:
    manager.answer = Ended(Outcome.FAILED, "UNIT_JOB_FAILED", "no such unit")
    refused(socket, "DRILL_BUG", f"{UNIT} does not start: no such unit")
    assert not (tmp_path / REQUEST).exists()


def test_a_request_that_was_left_lying_is_not_begun_in_another_night(
    socket: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "BEGINS_S", 0.0)
    assert ctl(socket, "run", REQUIRED, "--yes").exit_code == Exit.UNCLEAR
    monkeypatch.setattr(main, "TAKEN_S", -1.0)
    assert main._asked(config, tmp_path, tmp_path) is None
    assert not (tmp_path / REQUEST).exists()
    assert "is not begun so late" in capsys.readouterr().err


def test_a_unit_that_was_about_to_end_is_started_again_until_the_request_is_taken(
    socket: Path, manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drilling_module, "LAUNCH_AGAIN_S", 0.02)
    assert Client(socket).post("/v1/drill", {"scenario": REQUIRED})[0] == 202
    wait_for(lambda: len(manager.asked) > 1, name="it is started again")
    (tmp_path / REQUEST).unlink()
    assert set(manager.asked) == {("start", UNIT)}


# ---- abort, status, list --------------------------------------------------------------------------------------------


def test_abort_stops_the_unit_that_takes_everything_back(socket: Path, manager: Manager, tmp_path: Path) -> None:
    none = ctl(socket, "abort")
    assert (none.exit_code, manager.asked) == (Exit.REFUSED, [])
    assert none.stderr == "BLK_NOTHING  no drill is conducted from this node\n"
    book = Book.opened(tmp_path, ASKED, "lab", lambda _: None)
    ended = ctl(socket, "abort")
    assert (ended.exit_code, manager.asked) == (Exit.DONE, [("stop", UNIT)])
    assert book.drill.asked.id in ended.stdout


def test_status_tells_the_newest_phase_by_phase_and_list_all(socket: Path, tmp_path: Path) -> None:
    assert ctl(socket, "status").exit_code == Exit.FAILED
    for number, outcome in ((1, "failed"), (2, "passed")):
        asked = replace(DRILL.asked, id=f"2026082{number}-020000-primary-crash")
        place = tmp_path / DIRECTORY / asked.id
        place.mkdir(parents=True)
        (place / STATE).write_bytes(model.dump(replace(DRILL, asked=asked, outcome=outcome, clean=True)))  # type: ignore[arg-type]
    newest = ctl(socket, "status")
    assert newest.exit_code == Exit.DONE
    assert newest.stdout.startswith("20260822-020000-primary-crash  passed  by ")
    phases = [line.split()[0] for line in newest.stdout.splitlines() if line.startswith("  ")]
    assert phases[-len(DRILL.phases) :] == [str(phase.name) for phase in DRILL.phases]
    older = ctl(socket, "status", "20260821-020000-primary-crash", "-o", "json")
    assert json.loads(older.stdout)["outcome"] == "failed"
    for wrong in ("20260820-020000-primary-crash", "..", "../../etc"):
        assert ctl(socket, "status", wrong).exit_code == Exit.FAILED
    listed = ctl(socket, "list").stdout
    assert all(f"  {name} " in listed for name in SCENARIOS)
    assert listed.index("20260822") < listed.index("20260821")
    drills = json.loads(ctl(socket, "list", "-o", "json").stdout)["drills"]
    assert [model.load(model.Drill, json.dumps(one)).outcome for one in drills] == ["passed", "failed"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"asked": 1}', "[" * 100_000])
def test_one_that_cannot_be_read_hides_no_other(socket: Path, tmp_path: Path, content: str) -> None:
    good, bad = "20260822-020000-switchover", "20260821-020000-primary-crash"
    for name, text in (
        (good, model.dump(replace(DRILL, asked=replace(DRILL.asked, id=good))).decode()),
        (bad, content),
    ):
        (tmp_path / DIRECTORY / name).mkdir(parents=True)
        (tmp_path / DIRECTORY / name / STATE).write_text(text)
    listed = ctl(socket, "list")
    assert listed.exit_code == Exit.DONE
    assert f"  {good} " in listed.stdout
    assert re.search(rf"  {bad} +unreadable: \S", listed.stdout)
    found = ctl(socket, "status", bad)
    assert (found.exit_code, f"500 {bad}: " in found.stderr) == (Exit.FAILED, True)


# ---- the daemon's routes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"scenario": "earthquake"},
        {"scenario": REQUIRED, "users": -1},
        {"scenario": REQUIRED, "users": "20"},
        {"scenario": REQUIRED, "duration_s": 0},
        {"scenario": REQUIRED, "backup": "all"},
        {"scenario": REQUIRED, "window": "nights"},
        {"scenario": REQUIRED, "shell": "rm"},
        {},
    ],
)
def test_what_is_not_understood_is_named_and_nothing_begins(
    socket: Path, manager: Manager, tmp_path: Path, body: dict[str, object]
) -> None:

    code, answer = Client(socket).post("/v1/drill", body)
    assert (code, manager.asked) == (400, []), answer
    assert set(body) & set(answer.decode().partition(":")[0].split(".")) or not body
    assert not (tmp_path / REQUEST).exists()


# ---- as for other commands ------------------------------------------------------------------------------------------


def test_its_names_are_the_configurations() -> None:
    assert command.NAMES == SCENARIOS


def test_each_command_has_its_help_and_exit_codes() -> None:
    for name in ("run", "list", "status", "abort", "report", "compare"):
        text = CliRunner().invoke(app, ["drill", name, "--help"], prog_name="failoverctl").stdout
        assert all(line in text for line in EPILOG.splitlines()[1:]), name


def test_scenarios_and_drills_are_completed(
    socket: Path, tmp_path: Path, completed: Callable[[Path, str], list[str]]
) -> None:
    Book.opened(tmp_path, replace(ASKED, id="20260821-020000-switchover"), "lab", lambda _: None)
    assert completed(socket, "failoverctl drill run service-") == ["plain,service-death", "plain,service-hang"]
    assert completed(socket, "failoverctl drill status 2026") == ["plain,20260821-020000-switchover"]
    assert completed(tmp_path / "none.sock", "failoverctl drill status 2026") == []


@pytest.fixture
def completed() -> Callable[[Path, str], list[str]]:
    """What the shell offers after some words."""
    from test_ctl_frame import completed as words  # noqa: PLC0415 - a fixture, so that its tests are not run twice

    return words


def test_a_request_is_what_the_coordinator_reads(config: Config, tmp_path: Path) -> None:
    """The daemon writes it without the drill's own classes: so their shapes are held together here."""
    (tmp_path / REQUEST).write_bytes(model.dump(ASKED))
    assert main._asked(config, tmp_path, tmp_path) == ASKED
    (tmp_path / REQUEST).write_text('{"scenario": 7}')
    with pytest.raises(main.DrillError) as wrong:
        main._asked(config, tmp_path, tmp_path)
    assert wrong.value.code == "DRILL_BUG"
    assert isinstance(ASKED, Asked)
