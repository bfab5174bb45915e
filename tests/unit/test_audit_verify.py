"""An audit that is whole says so; whatever was done to one is found, with its first place."""

from __future__ import annotations

import base64
import json
import zlib
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from failoverd import views
from failoverd.audit import inputs, reading
from failoverd.audit.chain import Head, digest
from failoverd.audit.file import AuditFile
from failoverd.audit.verify import Found, Verified, verify
from failoverd.core.effects import Entry
from failoverd.core.health import Sendings
from failoverd.core.model import Node, NodeKind, NodeName
from failoverd.core.policy import Policy
from failoverd.core.view import View
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME = Node(NodeName("mail1"), NodeKind.DATA, "10.89.1.11")
VIEW = View(ME, (ME,), Policy((), "mariadb.service", 3), "", 1000, Sendings("p"))
Lines = list[bytes]


def entries(count: int) -> list[Entry]:
    return [Entry("decision", 7, "primary-serves", "serve: …", view=VIEW), *[Entry("step", 7, "r", "s")] * (count - 1)]


def write(directory: Path) -> None:
    """Twelve records, in three appends."""
    with closing(AuditFile(directory / "audit.jsonl", "mail1", BootClock(), lambda: NOON, cluster="mail")) as audit:
        for _ in range(3):
            audit.append(inputs.lines([*entries(3), Entry("blocked", 7, "r", "…", "BLK_LAG", view=VIEW)]))


def looked_at(directory: Path, now: datetime = NOON, **known: Any) -> tuple[Verified, list[Found]]:
    verified = Verified()
    return verified, verify(directory, verified, now, **known)


def rechained(lines: Lines) -> Lines:
    """The lines as somebody writes them who wants to hide what was done to them."""
    anew: Lines = []
    for line in lines:
        record = json.loads(line)
        if anew:
            record["prev"] = digest(anew[-1])
        anew.append(json.dumps(record).encode() + b"\n")
    return anew


def test_what_was_written_is_whole(tmp_path: Path) -> None:
    write(tmp_path)
    verified, found = looked_at(tmp_path)
    assert found == []
    assert (verified.records, verified.inputs) == (12, 6)
    assert verified.first == verified.last == "2026-03-01T12:00:00.000Z"


def changed(lines: Lines, index: int, **changes: Any) -> Lines:
    record = json.loads(lines[index]) | changes
    return [*lines[:index], json.dumps(record).encode() + b"\n", *lines[index + 1 :]]


def input_of(lines: Lines, index: int, **changes: Any) -> Lines:
    given = json.loads(lines[index])["input"] | changes
    return changed(lines, index, input={k: v for k, v in given.items() if v is not None})


@pytest.mark.parametrize(
    ("damage", "line", "words"),
    [
        (lambda lines: [*lines[:4], *lines[5:]], 5, "number 6 follows 4: 1 record is missing"),
        (lambda lines: [*lines[:5], *lines[4:]], 6, "number 5 follows 5: it was there before"),
        (lambda lines: [*lines[:5], b"{}\n", *lines[5:]], 6, "its version is None"),
        (lambda lines: [*lines[:5], b"\n", *lines[5:]], 6, "no JSON"),
        (lambda lines: [*lines[:5], b"[]\n", *lines[5:]], 6, "no JSON object"),
        (lambda lines: [*lines[:5], b"\xff\xfe\n", *lines[5:]], 6, "no JSON"),
        (lambda lines: [*lines, b'{"v":1,"seq":13'], 13, "no end of line"),
        (lambda lines: lines[2:], 1, "it is the first: 2 records are missing, and no record says"),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], 5, "number 6 follows 4: 1 record is missing"),
        (lambda lines: changed(lines, 3, v=9), 4, "its version is 9"),
        (lambda lines: changed(lines, 3, v=1), 4, "it is of version 1, and the one before it of a later one"),
        (lambda lines: changed(lines, 3, text="nothing"), 4, "it is not what record 5 goes on from"),
        (lambda lines: changed(lines, 3, prev="0" * 64), 3, "it is not what record 4 goes on from"),
        (lambda lines: changed(lines, 0, cluster="other"), 1, "it is not the beginning of an audit of mail1 in other"),
        (lambda lines: changed(lines, 0, node="mail9"), 1, "it is not the beginning of an audit of mail9 in mail"),
        (
            lambda lines: [line.replace(b',"boot_ms"', b', "boot_ms"', 1) for line in lines],
            1,
            "it is not what record 2",
        ),
        (lambda lines: changed(lines, 3, seq="4"), 4, "its number is '4'"),
        (lambda lines: changed(lines, 3, node="mail9"), 4, "it is of mail9, the one before of mail1"),
        (lambda lines: changed(lines, 3, time="yesterday"), 4, "its time is 'yesterday'"),
        (lambda lines: changed(lines, 3, time="2026-03-01T12:00:00"), 4, "its time is '2026-03-01T12:00:00'"),
        (lambda lines: changed(lines, 3, boot_ms=-1), 4, "its time since boot is -1"),
        (lambda lines: changed(lines, 3, input=1), 4, "its input is none"),
        (lambda lines: input_of(lines, 4, digest="0" * 64), 5, "not the one that it was written with"),
        (lambda lines: input_of(lines, 4, view="AAAA"), 5, "cannot be unpacked"),
        (lambda lines: input_of(lines, 3, digest="0" * 64), 4, "no record before it holds its input"),
    ],
)
def test_the_first_broken_place_is_named(
    damage: Callable[[Lines], Lines], line: int, words: str, tmp_path: Path
) -> None:
    write(tmp_path)
    path = tmp_path / "audit.jsonl"
    lines = damage(path.read_bytes().splitlines(keepends=True))
    path.write_bytes(b"".join(lines))
    _, found = looked_at(tmp_path)
    first = next(each for each in found if each.broken)
    assert (first.place.file, first.place.line) == ("audit.jsonl", line)
    assert first.place.byte == sum(map(len, lines[: line - 1]))
    assert words in first.what


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: changed(lines, 5, time="2026-03-01T11:59:30.000Z"), "set back by 30 s"),
        (lambda lines: changed(lines, 11, time="2026-03-01T12:30:00.000Z"), "is to come"),
        (lambda lines: input_of(lines, 4, view=None, omitted="too large"), "left out: too large"),
        (lambda lines: changed(lines, 11, kept_in="audit.jsonl.torn-3-1"), "is not there any more"),
    ],
)
def test_what_can_have_an_honest_cause_is_a_note(damage: Callable[[Lines], Lines], words: str, tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(rechained(damage(path.read_bytes().splitlines(keepends=True)))))
    _, found = looked_at(tmp_path)
    assert [each.broken for each in found if words in each.what] == [False]
    assert all(not each.broken or "no record before" in each.what for each in found)


def test_an_input_of_another_version_is_no_damage(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    data = inputs.unpacked(json.loads(lines[0])["input"])
    newer = json.dumps(json.loads(data) | {"of_tomorrow": 1}).encode()
    packed = {"digest": views.digest(newer), "view": base64.b64encode(zlib.compress(newer)).decode()}
    path.write_bytes(b"".join(changed(lines, 0, input={"software": "9.9", **packed})))
    _, found = looked_at(tmp_path)
    assert not found[0].broken
    assert "of failoverd 9.9, is not read here: of_tomorrow" in found[0].what


def test_a_torn_piece_is_named_and_is_no_damage_where_a_record_says_so(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes() + b'{"v":1,"seq":13,"ti')
    write(tmp_path)  # opened again: repaired
    _, found = looked_at(tmp_path)
    (piece,) = found
    assert (piece.broken, piece.place.file.startswith("audit.jsonl.torn-13-")) == (False, True)
    (tmp_path / piece.place.file).write_bytes(b"x")
    _, found = looked_at(tmp_path)
    assert [(each.broken, each.what) for each in found] == [(True, "it is not what was kept aside: it was changed")]
    (tmp_path / piece.place.file).write_bytes(b'{"v":1,"seq":13,"ti')
    (tmp_path / "audit.jsonl.torn-99-1").write_bytes(b"x")
    _, found = looked_at(tmp_path)
    assert [(each.place.file, each.broken) for each in found if each.broken] == [("audit.jsonl.torn-99-1", True)]


def test_a_line_that_is_being_written_is_no_damage(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "audit.jsonl"
    with closing(AuditFile(path, "mail1", BootClock(), wall=lambda: NOON)):
        with path.open("ab") as file:
            file.write(b'{"v":1,"seq":13')
        _, found = looked_at(tmp_path)
        assert found == []
    assert [each.broken for each in looked_at(tmp_path)[1]] == [True]


def test_the_rest_of_a_line_that_is_being_written_is_no_line(tmp_path: Path) -> None:
    write(tmp_path)
    whole = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)[-1]
    with (tmp_path / "audit.jsonl").open("ab", buffering=0) as file:
        file.write(whole[:9])
        reads = reading.records(tmp_path)
        *_, last = (next(reads) for _ in range(13))
        assert last.problem.startswith("no end of line")
        file.write(whole[9:])
        assert list(reads) == []
    *_, again = reading.records(tmp_path)
    assert again.line == whole


def test_what_others_know_of_it_is_held_against_it(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    heads = [Head(number, digest(line)) for number, line in enumerate(lines, 1)]
    verified, found = looked_at(tmp_path, known_heads=heads[3::4], cluster="mail")
    assert (found, verified.head) == ([], heads[-1])

    path.write_bytes(b"".join(lines[:-1]))
    assert looked_at(tmp_path)[1] == []  # nothing here knows of it
    (cut,) = looked_at(tmp_path, known_heads=[heads[-1]])[1]
    assert (cut.broken, cut.seq) == (True, 11)
    assert "it ends with record 11, and others know it up to 12" in cut.what

    path.write_bytes(b"".join(rechained(changed(lines, 3, text="nothing"))))
    assert looked_at(tmp_path)[1] == []  # all of it was written anew
    (other,) = looked_at(tmp_path, known_heads=[heads[7]])[1]
    assert (other.broken, other.place.line, other.seq) == (True, 8, 8)
    assert "not the record of that number that others know" in other.what

    path.write_bytes(b"".join(lines))
    (foreign,) = looked_at(tmp_path, cluster="mail-b")[1]
    assert "it is the audit of the cluster 'mail', not of 'mail-b'" in foreign.what


def test_records_of_version_1_come_first_and_never_again(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    old = [
        json.dumps(
            {"v": 1, "seq": number, "time": NOON.isoformat(), "boot_ms": 1, "node": "mail1", "term": None},
        ).encode()
        + b"\n"
        for number in range(1, 4)
    ]
    path.write_bytes(b"".join(old))
    write(tmp_path)
    verified, found = looked_at(tmp_path)
    assert (found, verified.records) == ([], 16)  # and the one that says what goes before
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(changed(lines, 2, boot_ms=2)))
    assert [(each.place.line, each.seq) for each in looked_at(tmp_path)[1]] == [(3, 3), (4, 4)]
    path.write_bytes(b"".join(changed(lines, 1, boot_ms=2)))
    (earlier,) = looked_at(tmp_path)[1]
    assert (earlier.seq, earlier.what) == (
        4,
        "the records of version 1 before it are not those that it goes on from",
    )
    path.write_bytes(b"".join(lines) + old[0].replace(b'"seq": 1', b'"seq": 17'))
    (late,) = looked_at(tmp_path)[1]
    assert "it is of version 1, and the one before it of a later one" in late.what


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no audit\.jsonl there"):
        looked_at(tmp_path)


def test_an_empty_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").touch()
    assert looked_at(tmp_path, NOON + timedelta(days=1)) == (Verified(), [])
