"""`failoverctl audit` on what a cluster wrote: shown, filtered, followed, verified and exported."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from audit_stage import rewrite, write
from click.testing import CliRunner, Result
from control_stage import Running, Stage

from failoverd.audit.file import AuditFile
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Records = list[dict[str, Any]]
PROGRAM = [sys.executable, "-c", "from failoverd.ctl.app import main; main()"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    directory = tmp_path_factory.mktemp("audit")
    return directory, write(directory)


@pytest.fixture
def written(original: tuple[Path, Records], tmp_path: Path) -> tuple[Path, Records]:
    directory = tmp_path / "audit"
    shutil.copytree(original[0], directory)
    return directory, json.loads(json.dumps(original[1]))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def ctl(directory: Path, *arguments: str, socket: str = "/nonexistent") -> Result:
    options = ["--audit", str(directory)] + ([] if arguments[0] == "verify" else ["--socket", socket])
    return CliRunner().invoke(app, ["audit", *arguments, *options], prog_name="failoverctl")


def shown(directory: Path, *arguments: str) -> Records:
    result = ctl(directory, "show", "-o", "json", "-n", "1000", *arguments)
    assert result.exit_code == Exit.DONE, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_show_the_newest_last(written: tuple[Path, Records]) -> None:
    directory, records = written
    assert shown(directory) == records
    lines = ctl(directory, "show", "-n", "3").stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == [record["seq"] for record in records[-3:]]
    decided = next(record for record in records if record["rule"] == "primary-lost-by-quorum")
    lines = ctl(directory, "show").stdout.splitlines()
    (line,) = (line for line in lines if line.split()[0] == str(decided["seq"]))
    assert line.endswith("  mail2  [1]  " + f"decision {decided['text']}  (explain)")


def test_show_filters_and_all_must_hold(written: tuple[Path, Records]) -> None:
    directory, records = written
    assert shown(directory, "--term", "2") == [r for r in records if r["term"] == 2]
    assert shown(directory, "--kind", "step") == [r for r in records if r["kind"] == "step"]
    assert shown(directory, "--rule", "primary-serves", "--kind", "decision") == [
        r for r in records if r["rule"] == "primary-serves" and r["kind"] == "decision"
    ]
    coded = next(r["code"] for r in records if r.get("code"))
    assert {r["code"] for r in shown(directory, "--code", coded)} == {coded}
    assert shown(directory, "--node", "mail9") == []
    late = shown(directory, "--since", "2026-03-01T12:00:05Z")
    assert late == [r for r in records if r["time"] >= "2026-03-01T12:00:05.000Z"] != []
    assert shown(directory, "--since", "1h") == []  # it is of 2026-03-01
    records[3]["detail"] = {"request": "0f3c"}
    rewrite(directory, records)
    assert shown(directory, "--request", "0f3c") == [records[3]]


@pytest.mark.parametrize("since", ["yesterday", "5x", "-1h", ""])
def test_a_moment_that_is_none_is_a_usage_error(written: tuple[Path, Records], since: str) -> None:
    assert ctl(written[0], "show", "--since", since).exit_code == Exit.USAGE


def test_show_follows(written: tuple[Path, Records]) -> None:
    directory, records = written
    command = [*PROGRAM, "audit", "show", "-f", "-n", "1", "--kind", "asked", "--audit", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        audit = AuditFile(directory / "audit.jsonl", "mail2", BootClock())
        deadline = time.monotonic() + 20
        lines: list[str] = []
        while not lines and time.monotonic() < deadline:  # whenever it has begun to look
            audit.append([{"kind": "other", "text": "…"}, {"kind": "asked", "text": "anna pauses"}])
            lines = _ready(process, 1.0)
        audit.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == Exit.DONE
    assert "asked anna pauses" in lines[0]
    assert int(lines[0].split()[0]) > len(records)


def _ready(process: subprocess.Popen[str], within_s: float) -> list[str]:
    """Return the next line, if one comes in time."""
    import select  # noqa: PLC0415 - only needed here

    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], within_s)
    return [process.stdout.readline()] if readable else []


def test_show_through_the_daemon(original: tuple[Path, Records], tmp_path: Path) -> None:
    stage = Stage()
    stage.directory = original[0]
    with Running(tmp_path / "control.sock", stage) as place:
        result = ctl(tmp_path / "nowhere", "show", "-o", "json", "-n", "1000", socket=str(place.path))
        assert [json.loads(line) for line in result.stdout.splitlines()] == original[1]
        stage.directory = tmp_path
        result = ctl(tmp_path / "nowhere", "show", socket=str(place.path))
    assert result.exit_code == Exit.UNREACHABLE
    assert "no audit.jsonl there" in result.stderr.partition("; and ")[2]


def test_verify_says_that_it_is_whole(written: tuple[Path, Records]) -> None:
    directory, records = written
    result = ctl(directory, "verify")
    assert result.exit_code == Exit.DONE, result.output
    assert result.stdout.endswith(
        "whole: every line is a record and holds the hash of the one before, every input is as it was written\n"
    )
    assert f"{len(records)} records, {records[0]['time']} to {records[-1]['time']}" in result.stdout
    assert json.loads(ctl(directory, "verify", "-o", "json").stdout)["whole"] is True


def test_verify_names_the_first_broken_place_and_ends_with_1(written: tuple[Path, Records]) -> None:
    directory, records = written
    rewrite(directory, [*records[:6], *records[7:]])
    byte = sum(len(json.dumps(r, separators=(",", ":"))) + 1 for r in records[:6])
    result = ctl(directory, "verify")
    assert result.exit_code == Exit.FAILED
    assert f"NOT whole: 1 places, the first is audit.jsonl, line 7, byte {byte}" in result.stdout
    assert "number 8 follows 6: 1 record is missing" in result.stdout
    document = json.loads(ctl(directory, "verify", "-o", "json").stdout)
    assert document["whole"] is False
    assert (document["found"][0]["line"], document["found"][0]["byte"]) == (7, byte)


def test_verify_without_an_audit(tmp_path: Path) -> None:
    result = ctl(tmp_path, "verify")
    assert (result.exit_code, "no audit.jsonl there" in result.stderr) == (Exit.UNREACHABLE, True)


def test_export_json_is_every_record_with_its_input(written: tuple[Path, Records]) -> None:
    directory, records = written
    result = ctl(directory, "export", "--format", "json")
    assert result.exit_code == Exit.DONE, (result.output, result.stderr)
    assert [json.loads(line) for line in result.stdout.splitlines()] == records
    some = ctl(directory, "export", "--format", "json", "--term", "2").stdout.splitlines()
    assert [json.loads(line) for line in some] == [r for r in records if r["term"] == 2]


def test_export_csv_is_rfc_4180_and_no_cell_is_a_formula(written: tuple[Path, Records]) -> None:
    directory, records = written
    evil = ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "\tx", "\rx", 'a "quoted", one\r\nof two lines']
    for record, text in zip(records, evil, strict=False):
        record["text"] = text
    rewrite(directory, records)
    text = ctl(directory, "export", "--format", "csv").stdout_bytes.decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert text.splitlines()[0] == ("seq,time,node,term,kind,rule,code,text,detail,input_digest,actor,result,prev")
    assert text.count("\r\n") == len(records) + 1 + 1  # a row's end each, and one within a cell
    assert [row["text"] for row in rows[: len(evil)]] == [f"'{cell}" for cell in evil[:-1]] + [evil[-1]]
    assert [int(row["seq"]) for row in rows] == [record["seq"] for record in records]
    for row, record in zip(rows, records, strict=True):
        assert row["input_digest"] == record.get("input", {}).get("digest", "")
        assert json.loads(row["detail"] or "{}") == record.get("detail", {})


def test_export_cef_has_a_line_a_record_and_the_filters_hold(written: tuple[Path, Records]) -> None:
    directory, records = written
    records[2]["actor"], records[4]["text"] = "anna", "one\nof two lines"
    rewrite(directory, records)
    lines = ctl(directory, "export", "--format", "cef").stdout_bytes.decode().splitlines()
    assert [line.partition(" externalId=")[2].partition(" ")[0] for line in lines] == [str(r["seq"]) for r in records]
    assert all(line.startswith("CEF:0|failoverd|failoverd|") for line in lines)

    def kept(*arguments: str) -> list[Any]:
        result = ctl(directory, "export", "--format", "json", *arguments)
        return [json.loads(line) for line in result.stdout_bytes.decode().splitlines()]

    assert kept("--actor", "anna") == [records[2]]
    assert kept("--actor", "failoverd") == [*records[:2], *records[3:]]
    until = "2026-03-01T12:00:05Z"
    assert kept("--until", until) == [r for r in records if r["time"] <= "2026-03-01T12:00:05.000Z"] != records
    assert kept("--since", until, "--until", until) == [r for r in records if r["time"] == "2026-03-01T12:00:05.000Z"]


def test_export_needs_a_format(written: tuple[Path, Records]) -> None:
    assert ctl(written[0], "export").exit_code == Exit.USAGE
