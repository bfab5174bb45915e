"""`failoverctl history` against a real socket: what was, who did it, and how a request ended whose terminal closed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from audit_stage import write
from click.testing import CliRunner, Result
from control_stage import PAST, Running, Stage

from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime.document import from_json
from failoverd.runtime.document_history import HistoryDocument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    with Running(tmp_path / "control.sock", Stage()) as place:
        yield place
    monkeypatch.undo()
    time.tzset()


def ctl(running: Running, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["history", *arguments, "--socket", str(running.path)], prog_name="failoverctl")


def test_the_newest_changes_in_local_time(running: Running) -> None:
    result = ctl(running)
    assert result.exit_code == Exit.DONE
    assert (
        result.stdout
        == """\
lab   2 changes of primary known   seen from mail2

TIME                 CHANGE  KIND        FROM → TO      BY          OUTAGE  OUTCOME  REASON
2026-03-01 13:00:00  term-7  switchover  mail2 → mail1  anna       0.199 s  done     kernel update
2026-02-27 04:12:44  term-6  failover    mail1 → mail2  failoverd        ?  unknown  \
a majority of observers has seen the lease run out
"""
    )
    assert result.stderr == "not asked: mail3  HISTORY_UNSEEN  no answer within 500 ms\n"


def test_all_has_requests_as_well_and_how_they_ended(running: Running) -> None:
    lines = ctl(running, "--all").stdout.splitlines()[3:]
    assert [line.split()[2] for line in lines] == ["term-7", "0f3c", "request", "term-6"]
    assert "mail1 shall be primary: mail1 is primary as asked" in lines[1]
    assert "refused  promote mail3: BLK_LAG: mail3 is 9000 ms behind" in lines[2]


def test_n_limits(running: Running) -> None:
    assert len(ctl(running, "-n", "1").stdout.splitlines()) == 4
    assert ctl(running, "-n", "0").exit_code == Exit.USAGE


def test_one_change_with_its_phases(running: Running) -> None:
    result = ctl(running, "term-7")
    assert result.exit_code == Exit.DONE
    assert (
        result.stdout
        == """\
term-7  switchover  mail2 → mail1  done  without a primary for 0.199 s
  began   2026-03-01 13:00:00.000
  ended   2026-03-01 13:00:00.206
  by      anna (request 0f3c)
  reason  kernel update
  rule    take-over-given   runbooks/rules/take-over-given.md

FROM   TO     NODE   PHASE                                            OUTCOME
0.000  0.007  mail2  close-gate     █
0.132         mail1  await-replica                       ███████████  under-way
0.194  0.206  mail1  open-gate                                    ██  failed  GATE_NFT
"""
    )


@pytest.mark.parametrize("name", ["7", "term-7", "0f3c"])
def test_a_change_is_found_by_its_id_its_term_and_its_request(running: Running, name: str) -> None:
    assert ctl(running, name).stdout.startswith("term-7  switchover")


def test_a_request_says_how_it_ended(running: Running) -> None:
    said = ctl(running, "0f3c").stdout
    assert "request 0f3c  mail1 shall be primary\n" in said
    assert "  outcome done: mail1 is primary as asked\n" in said


def test_what_is_not_known_is_said_with_what_is(running: Running) -> None:
    result = ctl(running, "term-99")
    assert result.exit_code == Exit.FAILED
    assert "no change or request 'term-99' is known; changes are known from term-6 to term-7" in result.stderr
    assert "not asked: mail3" in result.stderr


def test_nothing_was_yet(running: Running) -> None:
    running.stage.past = replace(PAST, changes=(), events=(), unseen=())
    result = ctl(running)
    assert (result.exit_code, result.stdout) == (Exit.DONE, "no change of primary is known\n")


def test_json_is_the_document_as_far_as_it_was_asked_for(running: Running) -> None:
    assert from_json(HistoryDocument, ctl(running, "--all", "-o", "json").stdout.encode()) == PAST
    one = json.loads(ctl(running, "term-6", "-o", "json").stdout)
    assert [change["id"] for change in one["changes"]] == ["term-6"]
    assert one["events"] == []
    assert json.loads(ctl(running, "-o", "json").stdout)["events"] == []


def test_without_a_daemon_this_node_s_audit_is_read(tmp_path: Path) -> None:
    write(tmp_path / "audit")
    arguments = ["history", "--audit", str(tmp_path / "audit"), "--socket", str(tmp_path / "none"), "-o", "json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == Exit.DONE, result.output
    assert "from this node's audit alone" in result.stderr
    document = json.loads(result.stdout)
    assert [(change["id"], change["holder"], change["outcome"]) for change in document["changes"]] == [
        ("term-2", "mail2", "done"),
        ("term-1", "mail1", "unknown"),
    ]
    assert document["node"] == "mail2"


def test_without_daemon_and_audit(tmp_path: Path) -> None:
    arguments = ["history", "--audit", str(tmp_path), "--socket", str(tmp_path / "none")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == Exit.UNREACHABLE
    assert "no such socket" in result.stderr
    assert "no audit.jsonl there" in result.stderr
