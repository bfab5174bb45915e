from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from failoverd.audit.chain import Head, Written, digest, genesis
from failoverd.audit.file import AuditDamagedError, AuditFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from failoverd.ports import AuditSink


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000

    def now_ms(self) -> int:
        """Return what the test set."""
        self.now += 1
        return self.now


def wall() -> datetime:
    return datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "audit.jsonl"


@pytest.fixture
def audit(path: Path) -> Iterator[AuditFile]:
    file = AuditFile(path, "mail1", Clock(), wall, cluster="mail")
    yield file
    file.close()


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_has_its_head_and_the_callers_fields(audit: AuditFile, path: Path) -> None:
    sink: AuditSink = audit
    sink.append(
        [{"event": "decided", "term": 7, "rule": "primary-lost-by-quorum"}, {"event": "odd", "text": "\ud800\n ü"}]
    )
    assert path.read_text().splitlines()[0] == (
        '{"v":2,"seq":1,"prev":"5d1e5d","time":"2026-03-01T12:00:00.123Z","boot_ms":1001,"node":"mail1",'
        '"cluster":"mail","term":7,"event":"decided","rule":"primary-lost-by-quorum"}'
    ).replace("5d1e5d", hashlib.sha256(b"failoverd audit 2\nmail\nmail1\n").hexdigest())
    second = records(path)[1]
    assert (second["seq"], second["term"], second["text"]) == (2, None, "\ud800\n ü")
    assert path.stat().st_mode & 0o777 == 0o640


def test_each_record_holds_the_hash_of_the_line_before(audit: AuditFile, path: Path) -> None:
    assert audit.head == genesis("mail", "mail1")
    audit.append([{"event": "a"}, {"event": "b"}])
    audit.append([{"event": "c"}])
    lines = path.read_bytes().splitlines(keepends=True)
    assert [record["prev"] for record in records(path)[1:]] == [hashlib.sha256(line).hexdigest() for line in lines[:2]]
    assert audit.head == Head(3, hashlib.sha256(lines[2]).hexdigest())
    audit.close()
    again = AuditFile(path, "mail1", Clock(), wall, cluster="mail")
    assert again.head == Head(3, hashlib.sha256(lines[2]).hexdigest())
    again.close()


def test_what_is_on_disk_is_told_with_its_line(path: Path) -> None:
    told: list[Written] = []
    audit = AuditFile(path, "mail1", Clock(), wall, told.extend)
    audit.append([{"event": "a"}, {"event": "b"}])
    audit.close()
    path.write_bytes(path.read_bytes() + b"torn")
    AuditFile(path, "mail1", Clock(), wall, told.extend).close()
    assert b"".join(each.line for each in told) == path.read_bytes()
    assert [each.record["seq"] for each in told] == [1, 2, 3]
    assert told[-1].head.seq == 3
    assert told[-1].record["kind"] == "audit-repaired"


def test_a_chain_goes_on_from_records_of_version_1(path: Path) -> None:
    path.parent.mkdir()
    old = b"".join(b'{"v":1,"seq":%d,"time":"2026-03-01T11:00:00Z","node":"mail1"}\n' % number for number in (1, 2))
    path.write_bytes(old)
    with closing(AuditFile(path, "mail1", Clock(), wall)) as audit:
        audit.append([{"event": "a"}])
    assert path.read_bytes().startswith(old)
    chained, last = records(path)[2:]
    assert (chained["v"], chained["seq"], chained["kind"]) == (2, 3, "audit-chained")
    assert chained["prev"] == digest(old.splitlines(keepends=True)[1])
    assert (chained["unchained_bytes"], chained["unchained_sha256"]) == (len(old), digest(old))
    assert (last["seq"], last["event"]) == (4, "a")


def test_the_sequence_goes_on_after_a_restart(audit: AuditFile, path: Path) -> None:
    audit.append([{"event": "a"}] * 3)
    audit.close()
    again = AuditFile(path, "mail1", Clock(), wall)
    assert again.sequence == 3
    again.append([{"event": "b"}])
    again.close()
    assert [record["seq"] for record in records(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "torn",
    [
        b'{"v":1,"seq":4,"ti',
        b"\0" * 5000,
        b'\0\0\0\0\n{"v":1',
        b'{"seq":0}\n',
        b"[]\nnull\n5\n",
        b'{"v":1,"seq":4}',
        b"\xff\n",
    ],
)
def test_a_torn_end_is_kept_aside_and_told(audit: AuditFile, path: Path, torn: bytes) -> None:
    audit.append([{"event": "a"}] * 3)
    audit.close()
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    AuditFile(path, "mail1", Clock(), wall).close()
    assert path.read_bytes().startswith(whole)
    *_, last = records(path)
    assert last["seq"] == 4
    assert last["kind"] == "audit-repaired"
    assert last["torn_bytes"] == len(torn)
    assert last["torn_sha256"] == hashlib.sha256(torn).hexdigest()
    assert last["prev"] == hashlib.sha256(whole.splitlines(keepends=True)[-1]).hexdigest()
    assert (path.parent / str(last["kept_in"])).read_bytes() == torn
    AuditFile(path, "mail1", Clock(), wall).close()
    assert len(records(path)) == 4


def test_an_end_without_any_record_is_an_error(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"x" * (2 << 20))
    with pytest.raises(AuditDamagedError, match="no record in its last"):
        AuditFile(path, "mail1", Clock(), wall)
    assert path.stat().st_size == 2 << 20


def test_a_second_writer_is_refused(audit: AuditFile, path: Path) -> None:
    audit.append([{"event": "a"}])
    with pytest.raises(BlockingIOError, match="another failoverd writes its record there"):
        AuditFile(path, "mail1", Clock(), wall)
    audit.append([{"event": "b"}])


def test_a_reserved_field_and_what_is_no_json_are_bugs(audit: AuditFile, path: Path) -> None:
    with pytest.raises(AssertionError):
        audit.append([{"event": "a"}, {"seq": 5}])
    with pytest.raises(TypeError):
        audit.append([{"event": object()}])
    assert path.read_bytes() == b""
    audit.append([{"event": "a"}])
    assert records(path)[-1]["seq"] == 1


def fill(audit: AuditFile) -> None:
    for _ in range(1000):
        audit.append([{"event": "a", "text": "y" * 500}])


@pytest.mark.root
def test_a_full_disk_loses_no_number(tmp_path: Path) -> None:
    """On a file system of its own, 64 KiB large: filled, freed, written again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        path = disk / "audit.jsonl"
        audit = AuditFile(path, "mail1", Clock(), wall)
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * (40 << 10))
        with pytest.raises(OSError, match="No space left"):
            fill(audit)
        written = audit.sequence
        with pytest.raises(OSError, match="No space left"):
            audit.append([{"event": "b", "text": "y" * 5000}])
        ballast.unlink()
        audit.append([{"event": "c"}])
        audit.close()
        assert [record["seq"] for record in records(path)] == list(range(1, len(records(path)) + 1))
        assert len(records(path)) > written
        assert records(path)[-1]["event"] == "c"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_killed_at_any_point_what_was_answered_is_there(path: Path) -> None:
    """A child appends for ever and says so; it is killed. Nothing said is missing, no number is skipped."""
    code = (
        "import sys, pathlib; from failoverd.audit.file import AuditFile\n"
        "from failoverd.runtime.clock import BootClock\n"
        "audit = AuditFile(pathlib.Path(sys.argv[1]), 'mail1', BootClock())\n"
        "while True: audit.append([{'event': 'a'}, {'event': 'b'}]); print(audit.sequence, flush=True)"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            said = [int(child.stdout.readline()) for _ in range(20)]
            child.kill()
            said += [int(line) for line in child.stdout if line.endswith(b"\n")]
        numbers = [record["seq"] for record in records(path)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= said[-1]


def test_no_descriptor_is_left_behind(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is asked
    for _ in range(5):
        AuditFile(path, "mail1", Clock(), wall).close()
    with closing(AuditFile(path, "mail1", Clock(), wall)), pytest.raises(BlockingIOError):
        AuditFile(path, "mail1", Clock(), wall)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - likewise
