"""`failoverctl explain` on what a cluster wrote, and on what a daemon says of now."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from audit_stage import rewrite, write
from click.testing import CliRunner, Result
from control_stage import Running, Stage

from failoverd import __version__
from failoverd.audit import inputs
from failoverd.core import rules
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.views import decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    directory = tmp_path_factory.mktemp("audit")
    return directory, write(directory)


@pytest.fixture
def written(original: tuple[Path, Records], tmp_path: Path) -> tuple[Path, Records]:
    directory = tmp_path / "audit"
    shutil.copytree(original[0], directory)
    return directory, json.loads(json.dumps(original[1]))


@pytest.fixture
def running(tmp_path: Path, original: tuple[Path, Records]) -> Iterator[Running]:
    """Yield a daemon that sees what mail2 saw as it took over, and has written that audit."""
    stage = Stage()
    taken = decided(original[1], "primary-lost-by-quorum")
    stage.seen = decode(inputs.unpacked(taken["input"]))
    stage.directory = original[0]
    with Running(tmp_path / "control.sock", stage) as place:
        yield place


def decided(records: Records, rule: str) -> dict[str, Any]:
    return next(record for record in records if record["kind"] == "decision" and record["rule"] == rule)


def ctl(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["explain", *arguments], prog_name="failoverctl")


def past(directory: Path, *arguments: str) -> Result:
    return ctl(*arguments, "--audit", str(directory), "--socket", "/nonexistent")


def test_a_takeover_by_its_number_says_why_and_what_would_have_changed_it(written: tuple[Path, Records]) -> None:
    directory, records = written
    record = decided(records, "primary-lost-by-quorum")
    result = past(directory, str(record["seq"]))
    assert result.exit_code == Exit.DONE, result.output
    said = result.stdout
    assert f"record {record['seq']} of mail2" in said
    assert "primary-lost-by-quorum: take-over, since a majority of observers has seen the lease run out" in said
    assert "  page  runbooks/rules/primary-lost-by-quorum.md" in said
    assert "paused " in said.split("Earlier rules")[1]
    assert "Candidates for a takeover: mail2" in said
    assert "  not mail1    BLK_UNREACHABLE" in said
    assert "  if the cluster were paused" in said
    assert "DIFFERS" not in said


def test_every_decision_of_the_audit_is_explained_as_it_was_decided(written: tuple[Path, Records]) -> None:
    directory, records = written
    numbers = [record["seq"] for record in records if record["kind"] == "decision"]
    assert len(numbers) > 4
    for number in numbers:
        document = json.loads(past(directory, str(number), "-o", "json").stdout)
        assert document["rule"] == document["record"]["rule"]
        assert document["differs"] == ""
        assert "input" not in document["record"]
        for each in document["earlier"]:
            assert 1 <= len(each["lacks"]) <= each["conditions"]
        assert {each["rule"] for each in document["otherwise"]} <= {rule.id for rule in rules.RULES}
        assert document["rule"] not in {each["rule"] for each in document["otherwise"]}


def test_a_term_is_explained_by_the_decision_that_made_it_here(written: tuple[Path, Records]) -> None:
    document = json.loads(past(written[0], "term-2", "-o", "json").stdout)
    assert (document["rule"], document["decision"], document["term"]) == ("primary-lost-by-quorum", "take-over", 1)


def test_a_switchover_that_was_taken_back_is_found_by_what_history_calls_it(written: tuple[Path, Records]) -> None:
    directory, records = written
    lapsing, taken = decided(records, "primary-lapsing"), decided(records, "primary-lost-by-quorum")
    for record in (lapsing, taken):
        record["kind"], record["term"] = "switchover-undone", 7
    rewrite(directory, records)
    for number, record in enumerate((lapsing, taken), start=1):
        document = json.loads(past(directory, f"term-8-undone-{number}", "-o", "json").stdout)
        assert document["record"]["seq"] == record["seq"]
    assert past(directory, "term-8-undone-3").exit_code == Exit.FAILED


def test_a_record_that_tells_of_no_decision_is_explained_by_the_one_in_force(written: tuple[Path, Records]) -> None:
    directory, records = written
    step = next(r for r in records if r["kind"] == "step" and r["detail"]["name"] == "open-gate")
    said = past(directory, str(step["seq"])).stdout
    assert f"record {step['seq']} (step: open-gate) tells of no decision itself" in said
    assert "primary-serves: serve, since this node holds the lease" in said


def test_a_version_that_decides_otherwise_says_so_and_ends_with_1(written: tuple[Path, Records]) -> None:
    directory, records = written
    record = decided(records, "primary-lost-by-quorum")
    record["rule"], record["input"]["software"] = "a-rule-of-old", "0.0.9"
    rewrite(directory, records)
    result = past(directory, str(record["seq"]))
    assert result.exit_code == Exit.FAILED
    assert (
        f"DIFFERS: failoverd 0.0.9 decided a-rule-of-old; this version, {__version__}, decides primary-lost-by-quorum"
        in result.stdout
    )


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("99999", "no record of this node's audit is '99999'"),
        ("term-99", "no record of this node's audit is 'term-99'"),
        ("0f3c9a", "no record of this node's audit is '0f3c9a'"),
        ("1", "none stands before it"),
    ],
)
def test_what_cannot_be_explained_is_said(written: tuple[Path, Records], event: str, words: str) -> None:
    directory, records = written
    rewrite(directory, [{**records[0], "kind": "step", "input": None} | {"input": None}, *records[1:]])
    kept = [{k: v for k, v in record.items() if v is not None} for record in json.loads(json.dumps(records))]
    kept[0] = {k: v for k, v in kept[0].items() if k != "input"}
    rewrite(directory, kept)
    result = past(directory, event)
    assert result.exit_code == Exit.FAILED
    assert words in result.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"view": "AAAA"}, "cannot be unpacked"),
        ({"digest": "0" * 64}, "not the one that it was written with"),
        ({"omitted": "too large", "view": None}, "its input was left out: too large"),
    ],
)
def test_an_input_that_cannot_be_used_says_why(
    written: tuple[Path, Records], change: dict[str, Any], words: str
) -> None:
    directory, records = written
    record = decided(records, "primary-lost-by-quorum")
    record["input"] = {k: v for k, v in (record["input"] | change).items() if v is not None}
    rewrite(directory, records)
    result = past(directory, str(record["seq"]))
    assert result.exit_code == Exit.FAILED
    assert words in result.stderr


def test_now(running: Running) -> None:
    result = ctl("now", "--socket", str(running.path))
    assert result.exit_code == Exit.DONE, result.output
    assert result.stdout.startswith("mail2, term 1, holder mail1\nprimary-lost-by-quorum: take-over")
    assert result.stdout.endswith("As mail2 sees it now.\n")


def test_why_not_names_each_blocker_with_its_page(running: Running) -> None:
    result = ctl("why-not", "mail1", "--socket", str(running.path))
    assert result.exit_code == Exit.DONE
    assert result.stdout.startswith("mail1 could not become primary now   (seen from mail2)\n  BLK_UNREACHABLE  ")
    assert "page  runbooks/codes/BLK_UNREACHABLE.md" in result.stdout
    said = ctl("why-not", "mail2", "--socket", str(running.path)).stdout
    assert said == "mail2 could take over   (seen from mail2)\n"


def test_why_not_for_programs(running: Running) -> None:
    stage = running.stage
    record = stage.seen.record
    assert record is not None
    stage.seen = replace(stage.seen, record=replace(record, paused="anna: moving the rack"))
    document = json.loads(ctl("why-not", "mail2", "-o", "json", "--socket", str(running.path)).stdout)
    (reason,) = document["reasons"]
    assert (reason["code"], reason["page"]) == ("BLK_PAUSED", "runbooks/codes/BLK_PAUSED.md")
    assert document["seen_from"] == "mail2"


def test_a_file_that_may_not_be_read_is_read_through_the_daemon(running: Running, tmp_path: Path) -> None:
    result = ctl("term-2", "--audit", str(tmp_path / "nowhere"), "--socket", str(running.path))
    assert result.exit_code == Exit.DONE, result.output
    assert "primary-lost-by-quorum: take-over" in result.stdout


def test_neither_file_nor_daemon(tmp_path: Path) -> None:
    result = ctl("1", "--audit", str(tmp_path), "--socket", str(tmp_path / "none"))
    assert result.exit_code == Exit.UNREACHABLE
    assert "no audit.jsonl there" in result.stderr
    assert "no such socket" in result.stderr


@pytest.mark.parametrize("arguments", [("why-not",), ("now", "mail1"), ()])
def test_usage(arguments: tuple[str, ...]) -> None:
    assert ctl(*arguments).exit_code == Exit.USAGE
