"""An audit over several files: closed, packed, removed for their age, and read as one, also while that is done."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_files import Stage, found_in
from trials.figures import Tail

from failoverd.audit import layout, reading
from failoverd.audit.chain import Head
from failoverd.audit.file import AuditDamagedError
from failoverd.audit.reading import Wanted

KILLED = Path(__file__).with_name("audit_killed_process.py")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "audit")


def numbers(directory: Path) -> list[object]:
    return [read.record["seq"] if read.record else read.problem for read in reading.records(directory)]


def test_a_file_is_closed_when_it_is_large_enough_and_the_chain_goes_on(stage: Stage) -> None:
    while len(stage.names()) < 4:
        stage.append("a text of some length " * 5)
    newest = stage.audit.head
    assert numbers(stage.directory) == list(range(1, newest.seq + 1))
    assert stage.found(newest) == []
    *closed, active = layout.paths(stage.directory)
    assert active.name == "audit.jsonl"
    for path in closed:
        assert path.stat().st_size >= 1500
        first = json.loads(path.read_bytes().splitlines()[0])
        assert path.name == f"audit-{first['seq']:012d}.jsonl"
    stage.again()
    assert stage.audit.head == newest


def test_a_file_is_closed_at_the_first_record_of_another_day(stage: Stage) -> None:
    stage.append("one")
    stage.append("two")
    stage.days += 1
    stage.again()
    assert stage.names() == ["audit.jsonl"]
    stage.append("three")
    assert stage.names() == ["audit-000000000001.jsonl", "audit.jsonl"]
    assert numbers(stage.directory) == [1, 2, 3]


def test_a_file_that_has_the_name_is_never_written_over(stage: Stage) -> None:
    stage.append("one")
    (stage.directory / "audit-000000000001.jsonl").write_text("kept\n")
    stage.days += 1
    stage.append("two")  # there is no way to close it, and the record counts more
    assert (stage.directory / "audit-000000000001.jsonl").read_text() == "kept\n"
    assert len((stage.directory / "audit.jsonl").read_bytes().splitlines()) == 2


def test_closed_files_are_packed_but_the_newest_and_are_read_only(stage: Stage) -> None:
    for _ in range(4):
        stage.day()
    assert stage.names() == [
        "audit-000000000001.jsonl.gz",
        "audit-000000000003.jsonl.gz",
        "audit-000000000005.jsonl",
        "audit.jsonl",
    ]
    assert [path.stat().st_mode & 0o777 for path in layout.paths(stage.directory)] == [0o440, 0o440, 0o440, 0o640]
    lines = [read.line for read in reading.records(stage.directory)]
    assert gzip.decompress((stage.directory / stage.names()[0]).read_bytes()) == b"".join(lines[:2])
    stage.day()
    told = [each.record for each in stage.told if each.record["kind"] == "audit-closed"]
    assert [(record["file"], record["first"], record["last"]) for record in told] == [
        ("audit-000000000001.jsonl.gz", 1, 2),
        ("audit-000000000003.jsonl.gz", 3, 4),
    ]
    assert stage.broken() == []


def test_what_a_kill_left_untold_is_told_after_the_next_start(stage: Stage) -> None:
    for _ in range(5):
        stage.day()
    stage.again()  # what was noted and not appended yet is gone
    assert any("no record says that it was packed" in each.what for each in stage.found())
    stage.look()
    stage.append("next")
    assert stage.found() == []


def test_a_packed_file_is_what_its_record_says_in_every_bit(stage: Stage) -> None:
    for _ in range(4):
        stage.day()
    stage.append("and the records of what was packed")
    packed = stage.directory / stage.names()[0]
    packed.chmod(0o600)
    content = bytearray(packed.read_bytes())
    content[4] ^= 1  # of the time in its head, which changes no record
    packed.write_bytes(content)
    (damaged,) = stage.broken()
    assert damaged.place.file == packed.name
    assert "says that it was another file" in damaged.what


def test_old_files_go_and_the_rest_still_begins_at_a_proven_point(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "audit", retention_days=3)
    for _ in range(12):
        stage.day()
    first = layout.closed(stage.directory)[0].first
    assert first > 1
    assert stage.broken() == []
    expired = [each.record for each in stage.told if each.record["kind"] == "audit-expired"]
    assert expired[-1]["last"] == first - 1
    assert any(path.name == f"audit-{first:012d}.jsonl.gz" for path in layout.paths(stage.directory))
    layout.closed(stage.directory)[0].path.unlink()
    (missing,) = stage.broken()
    assert "no record says that they expired" in missing.what


def test_a_clock_that_is_ahead_for_an_hour_costs_no_record(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "audit", retention_days=3)
    for _ in range(3):
        stage.day()
    stage.days += 1000
    for _ in range(60):
        stage.boot_ms += 60_000
        stage.keeper.look()
        stage.append("the clock is ahead")
    stage.days -= 1000
    stage.look()
    stage.append("the clock is right")
    stage.look()
    assert layout.closed(stage.directory)[0].first == 1
    assert not any(each.record["kind"] == "audit-expired" for each in stage.told)


def test_nothing_goes_but_what_the_audit_itself_kept(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    stage = Stage(tmp_path / "audit", retention_days=1)
    stage.audit.append([{"kind": "x", "kept_in": "../other"}, {"kind": "x", "kept_in": "audit.jsonl.torn-../../other"}])
    for _ in range(6):
        stage.day()
    assert layout.closed(stage.directory)[0].first > 2
    assert other.read_text() == "kept"


def test_a_torn_piece_goes_with_the_record_of_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "audit", retention_days=2)
    stage.append("one")
    with (stage.directory / "audit.jsonl").open("ab") as file:
        file.write(b'{"v":2,"seq":2')
    stage.again()
    assert len(list(stage.directory.glob("*.torn-*"))) == 1
    for _ in range(8):
        stage.day()
    assert list(stage.directory.glob("*.torn-*")) == []
    assert stage.broken() == []


def test_a_reader_reads_all_once_whatever_becomes_of_the_files_meanwhile(stage: Stage) -> None:
    for _ in range(5):
        stage.day()
    before = stage.audit.sequence
    reader = reading.records(stage.directory)
    seen = [next(reader).record]
    for _ in range(5):
        stage.day()
    seen += [read.record for read in reader]
    assert [record["seq"] for record in seen if record] == list(range(1, before + 1))


def test_the_tail_goes_back_over_the_files(stage: Stage) -> None:
    for _ in range(6):
        stage.day("some text")
    lines = [read.line for read in reading.records(stage.directory)]
    for size in (1, 300, 900, 2000, 4000, 1 << 20):
        tail = list(reading.tail_lines(stage.directory, size))
        assert tail == (lines[-len(tail) :] if tail else [])
        assert sum(map(len, tail)) <= size
        assert sum(map(len, lines[-len(tail) - 1 :])) > size or tail == lines
    assert [record["seq"] for record, _ in reading.tail(stage.directory, 1 << 20)] == numbers(stage.directory)


def test_files_that_end_before_a_moment_are_not_read(stage: Stage) -> None:
    for _ in range(6):
        stage.day()
    everything = numbers(stage.directory)
    for days in range(8):
        since = stage.now() - timedelta(days=days)
        some = [read.record for read in reading.records(stage.directory, since) if read.record]
        wanted = [read.record for read in reading.records(stage.directory) if read.record]
        assert [record["seq"] for record in some] == everything[len(everything) - len(some) :]
        assert [r for r in some if Wanted(since=since).has(r)] == [r for r in wanted if Wanted(since=since).has(r)]
    (stage.directory / stage.names()[0]).write_bytes(b"damaged")
    assert all(read.record for read in reading.records(stage.directory, stage.now()))


def test_the_lab_follows_an_audit_where_its_file_is_closed(stage: Stage) -> None:
    tail = Tail(stage.directory / layout.NAME)
    seen: list[object] = []
    for _ in range(3):
        stage.append("one")
        seen += [record["seq"] for record in tail.new()]
        stage.append("two")
        stage.day()
        seen += [record["seq"] for record in tail.new()]
    assert seen == numbers(stage.directory)


def test_an_audit_whose_newest_file_is_gone_goes_on_and_says_so(stage: Stage) -> None:
    stage.day()
    stage.day()
    (stage.directory / "audit.jsonl").unlink()
    assert any("it is not there" in each.what for each in stage.broken())
    stage.again()
    stage.append("next")
    assert stage.told[-2].record["kind"] == "audit-lost"
    assert [each.seq for each in stage.broken()] == [stage.told[-2].record["seq"]]


def test_a_closed_file_without_a_record_at_its_end_is_an_error(stage: Stage) -> None:
    stage.day()
    stage.day()
    stage.audit.close()
    closed = stage.directory / stage.names()[0]
    closed.chmod(0o600)
    closed.write_bytes(b"x" * 100)
    (stage.directory / "audit.jsonl").write_bytes(b"")
    with pytest.raises(AuditDamagedError, match="does not end with a record"):
        stage.begin()


def test_a_damaged_file_keeps_no_other_from_being_packed(stage: Stage) -> None:
    stage.day()
    stage.days += 1
    stage.append("two")
    damaged = stage.directory / stage.names()[0]
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    for _ in range(3):
        stage.days += 1
        stage.append("more")
    with pytest.raises(ValueError, match=f"{damaged.name} does not end with a record"):
        stage.look()
    assert [name.endswith(".gz") for name in stage.names()] == [False, True, True, False, False]


def states(place: Path) -> list[dict[str, Any]]:
    """Have a process killed before each change of a file that it makes; what it was killed at, and had said."""
    done = subprocess.run([sys.executable, str(KILLED), str(place)], check=True, capture_output=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_killed_at_any_step_of_it_nothing_is_lost_and_nothing_looks_broken(tmp_path: Path) -> None:
    found = states(tmp_path)
    events = {state["at"] for state in found}
    assert {"os.link", "os.rename", "os.remove", "os.chmod", "open"} <= events
    assert len(found) > 40
    for state in found:
        directory = tmp_path / state["directory"]
        assert [each for each in found_in(directory, Head(state["seq"], state["hash"])) if each.broken] == [], state
        stage = Stage(directory, retention_days=2, days=20)
        assert stage.audit.sequence >= state["seq"], state
        stage.look()
        stage.append("goes on")
        stage.look()
        stage.append("goes on")
        assert stage.broken(Head(state["seq"], state["hash"])) == [], state
        left = {path.name for path in directory.iterdir()}
        assert not any(name.endswith((".part", ".new")) for name in left), state
        stage.audit.close()
        shutil.rmtree(directory)
