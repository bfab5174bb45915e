"""`failoverctl alerts` against a real control socket, with the telling behind it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml
from alert_stage import Answer, Sink, free_port, receiver, until
from click.testing import CliRunner, Result
from control_stage import BEHIND, UNSYNCED, Running, Stage, me
from test_alerts_nodes import Cluster

from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime import alerting as module
from failoverd.runtime.control import ControlServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def ctl(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["alerts", "--socket", str(path), *arguments], prog_name="failoverctl")


class Told:
    """One node that tells, and its control socket."""

    def __init__(self, config_file: Path, tmp_path: Path, sink: Sink) -> None:
        dead = receiver("pager", f"http://127.0.0.1:{free_port()}/")
        self.cluster = Cluster(config_file, tmp_path, receiver("desk", sink.url), dead)
        self.alerting = self.cluster.start("arbiter")
        self.path = tmp_path / "control.sock"
        self.stage = Stage()
        self.server = ControlServer(self.path, self.stage, self.alerting.control_routes())
        self.cluster.call(self.server.start())

    def close(self) -> None:
        """End it."""
        self.cluster.call(self.server.stop())
        self.cluster.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def told(config_file: Path, tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setattr(module, "GRACE_MS", 0)
    told = Told(config_file, tmp_path, sink)
    yield told
    told.close()


def test_what_is_open_what_waits_and_how_each_receiver_took_the_last_one(told: Told, sink: Sink) -> None:
    told.cluster.findings = (BEHIND, UNSYNCED)
    until(lambda: len(sink.taken) == 2)
    until(lambda: "desk   json   0 waiting" in ctl(told.path).output)  # what was taken is noted a moment later
    until(lambda: "pager   json   2 waiting   last" in ctl(told.path).output)
    shown = re.sub(r"20\d\d-\S+Z", "TIME", ctl(told.path).output)
    assert shown == (
        "lab   2 alerts open   told by arbiter   seen from arbiter\n"
        "\n"
        "mail3 warns   LAG_WARN  1000 ms behind mail1, the limit is 500 ms\n"
        "              since TIME, told desk\n"
        "              page  runbooks/codes/LAG_WARN.md\n"
        "\n"
        "mail3 BLOCKS  SET_SYNC_BINLOG  sync_binlog = 0; allowed: 1\n"
        "              since TIME, told desk\n"
        "              page  runbooks/codes/SET_SYNC_BINLOG.md\n"
        "\n"
        "Receiver  desk   json   0 waiting   last TIME taken (200)\n"
        "Receiver  pager   json   2 waiting   last TIME NOT taken: no connection: ECONNREFUSED\n"
    )
    document = json.loads(ctl(told.path, "-o", "json").output)
    assert [alert["told"] for alert in document["open"]] == [["desk"], ["desk"]]
    assert yaml.safe_load(ctl(told.path, "-o", "yaml").output) == document
    assert ctl(told.path).exit_code == Exit.DONE


def test_a_test_goes_through_the_queue_before_what_waits_and_says_what_became_of_it(told: Told, sink: Sink) -> None:
    tested = ctl(told.path, "test", "desk")
    assert (tested.output, tested.exit_code) == ("desk: taken\n", Exit.DONE)
    assert sink.told == [("test", "ALERTS_TEST")]
    told.cluster.findings = (BEHIND,)
    until(lambda: told.alerting.queued == 1)
    tested = ctl(told.path, "test")
    assert tested.output == ("desk: taken\npager: NOT taken: ALERT_UNDELIVERED: no connection: ECONNREFUSED\n")
    assert tested.exit_code == Exit.FAILED
    assert told.alerting.queued == 1, "a test is tried once; what waits still waits"
    sink.always = Answer(404)
    assert ctl(told.path, "test", "desk").output == "desk: NOT taken: ALERT_REFUSED: answers 404\n"
    assert ctl(told.path).exit_code == Exit.WARNINGS


def test_a_test_is_recorded_with_who_asked_to_whom_and_what_came_of_it(told: Told) -> None:
    ctl(told.path, "test")
    begun, ended = told.stage.recorded
    assert begun[:4] == ("request", "a test message to desk, pager", me(), "")
    words = "desk: taken; pager: ALERT_UNDELIVERED: no connection: ECONNREFUSED"
    assert ended[:4] == ("request-result", words, me(), "ALERT_UNDELIVERED")
    assert ended[4] == {**begun[4], "outcome": "failed"}


def test_a_receiver_that_is_none(told: Told) -> None:
    tested = ctl(told.path, "test", "nobody")
    assert tested.exit_code == Exit.USAGE
    assert told.stage.recorded == [], "nobody was told anything"
    assert "alerts.receivers has: desk, pager" in tested.output


def test_without_receivers_nobody_is_told_and_nothing_runs(config_file: Path, tmp_path: Path) -> None:
    cluster = Cluster(config_file, tmp_path)
    alerting = cluster.start("arbiter")
    try:
        assert alerting._herald is None
        server = ControlServer(tmp_path / "control.sock", Stage(), alerting.control_routes())
        cluster.call(server.start())
        shown = ctl(tmp_path / "control.sock")
        cluster.call(server.stop())
    finally:
        cluster.close()
    assert shown.exit_code == Exit.DONE
    assert "Receivers  none: nobody is told" in shown.output


def test_a_daemon_of_before_alerts_is_told_apart(tmp_path: Path) -> None:
    with Running(tmp_path / "control.sock", Stage()):
        shown = ctl(tmp_path / "control.sock")
    assert shown.exit_code == Exit.FAILED
    assert "404" in shown.output


def test_a_queue_that_cannot_be_kept_is_shown(config_file: Path, tmp_path: Path, sink: Sink) -> None:
    (tmp_path / "arbiter").write_text("a file in the place of the directory")
    told = Told(config_file, tmp_path, sink)
    try:
        until(lambda: "ALERTS_DISK" in ctl(told.path).output)
        assert ctl(told.path).exit_code == Exit.FAILED
        assert "desk: NOT taken: ALERTS_DISK" in ctl(told.path, "test", "desk").output
    finally:
        told.close()
