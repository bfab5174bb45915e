"""What a rebuild does with files: a binary log read, directories changed, a journal kept. No server is needed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from failoverd.core.gtid import GtidSet
from failoverd.probes.disk_writer import NAME
from failoverd.rebuild import RebuildError, ahead, binlog, private, switch
from failoverd.rebuild.binlog import GTID, QUERY, ROTATE, XID
from failoverd.rebuild.journal import Entry, Journal, Stage

TABLE_MAP, WRITE_ROWS = 19, 23


def event(kind: int, server: int = 1, body: bytes = b"") -> bytes:
    return struct.pack("<IBIIIH", 0, kind, server, 19 + len(body), 0, 0) + body


def group(number: int, *kinds: int, server: int = 1, standalone: bool = False) -> bytes:
    begin = event(GTID, server, struct.pack("<QIB", number, 0, int(standalone)) + b"\0" * 6)
    return begin + b"".join(event(kind, server, b"x" * 7) for kind in kinds)


def log(directory: Path, *files: bytes) -> Path:
    index = directory / "bin.index"
    names = [f"./bin.{number:06}" for number in range(1, len(files) + 1)]
    for name, content in zip(names, files, strict=True):
        (directory / name).write_bytes(binlog.MAGIC + event(binlog.FORMAT) + content)
    index.write_text("".join(f"{name}\n" for name in names))
    return index


def found(index: Path) -> list[tuple[str, int, bool]]:
    return [(one.source, one.number, one.standalone) for one in binlog.groups(index)]


def test_groups_over_files(tmp_path: Path) -> None:
    first = group(1, QUERY, standalone=True) + group(2, TABLE_MAP, WRITE_ROWS, XID) + event(ROTATE)
    second = event(binlog.GTID_LIST) + group(7, TABLE_MAP, WRITE_ROWS, XID, server=2)
    index = log(tmp_path, first, second)
    assert found(index) == [("0-1", 1, True), ("0-1", 2, False), ("0-2", 7, False)]


WHOLE = group(1, TABLE_MAP, WRITE_ROWS, XID) + group(2, TABLE_MAP, WRITE_ROWS, XID)


@pytest.mark.parametrize("cut", range(1, len(group(2, TABLE_MAP, WRITE_ROWS, XID)) + 1))
def test_a_crash_cuts_the_last_group_off_anywhere(tmp_path: Path, cut: int) -> None:
    assert found(log(tmp_path, WHOLE[:-cut])) == [("0-1", 1, False)]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"no log at all", "AHEAD_UNREADABLE"), (b"", "AHEAD_UNREADABLE"), (None, "AHEAD_UNREADABLE")],
)
def test_a_file_that_is_no_binary_log(tmp_path: Path, content: bytes | None, code: str) -> None:
    index = log(tmp_path, WHOLE)
    if content is None:
        (tmp_path / "bin.000001").unlink()
    else:
        (tmp_path / "bin.000001").write_bytes(content)
    with pytest.raises(RebuildError, match=code):
        found(index)


def test_an_encrypted_log_and_none(tmp_path: Path) -> None:
    with pytest.raises(RebuildError, match="is encrypted"):
        found(log(tmp_path, event(binlog.ENCRYPTION) + b"\x17" * 100))
    with pytest.raises(RebuildError, match="AHEAD_NO_BINLOG"):
        found(tmp_path / "absent.index")


def test_what_is_extra(tmp_path: Path) -> None:
    content = b"".join(group(n, TABLE_MAP, WRITE_ROWS, XID) for n in (1, 2, 3))
    content += group(4, QUERY, standalone=True) + group(900, XID, server=2) + group(901, XID, server=1)
    index = log(tmp_path, content)
    extra = ahead.find(index, ahead.covered_by("0-1-2,0-2-950"))
    assert str(extra.gtids) == "0-1:3-4:901"
    assert (extra.transactions, extra.ddl, len(extra.ranges)) == (2, 1, 2)
    assert ahead.find(index, ahead.covered_by("0-1-901,0-2-950")).ranges == ()
    everything = ahead.find(index, ahead.covered_by(""))
    assert len(everything.ranges) == 1, "neighbours are one range"
    since = ahead.find(index, ahead.covered_by("0-1-901,0-2-950", "0-1-3"))
    assert since.gtids == GtidSet.of({"0-1": [(4, 4), (901, 901)], "0-2": [(900, 900)]})


@pytest.mark.parametrize(
    ("position", "before", "after", "state"),
    [
        ("0-2-510", "0-1-500,0-2-505", "0-1-500,0-2-520", "0-1-500,0-2-510"),
        ("0-2-510", "0-1-500", "0-1-500,0-2-511,0-3-600", "0-1-500,0-2-510"),  # the primary changed after it
        ("0-2-510", "0-1-500", "0-1-505,0-2-510", "0-1-505,0-2-510"),  # and before
        ("0-1-5,7-4-9", "0-1-5,7-4-8", "0-1-5,7-4-9", "0-1-5,7-4-9"),
        ("", "", "", ""),
    ],
)
def test_the_state_that_belongs_to_a_position(position: str, before: str, after: str, state: str) -> None:
    assert private.state(position, before, after) == state


# ---- the directories change places ----------------------------------------------------------------------------------

OLD, NEW = {"ibdata1": "old", "mysql": "old", "gone": "old"}, {"ibdata1": "new", "mysql": "new", "more": "new"}


def laid_out(tmp_path: Path) -> tuple[Path, Path]:
    data, work = tmp_path / "data", tmp_path / "data.rebuild"
    for directory, files in ((data, OLD), (work / "new", NEW)):
        directory.mkdir(parents=True)
        for name, text in files.items():
            (directory / name).write_text(text)
    (data / "lost+found").mkdir()
    return data, work


def texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("out", range(len(OLD) + 1))
@pytest.mark.parametrize("into", range(len(NEW) + 1))
def test_interrupted_between_any_two_renames(tmp_path: Path, out: int, into: int) -> None:
    data, work = laid_out(tmp_path)
    (work / "old").mkdir()
    for name in sorted(OLD)[:out]:
        (data / name).rename(work / "old" / name)
    switch.move_out(data, work)
    assert texts(work / "old") == OLD
    assert [path.name for path in data.iterdir()] == ["lost+found"]
    for name in sorted(NEW)[:into]:
        (work / "new" / name).rename(data / name)
    switch.move_in(data, work)
    assert texts(data) == NEW
    assert texts(work / "old") == OLD


def test_the_only_data_are_never_thrown_away(tmp_path: Path) -> None:
    data, work = laid_out(tmp_path)
    switch.move_out(data, work)  # and then the journal is lost
    (data / f"{NAME}.mail1").write_bytes(b"of the disk probe, which goes on all the while")
    (data / NAME).write_bytes(b"another")
    with pytest.raises(RebuildError, match="REBUILD_DATA"):
        switch.begin_anew(work, data)
    assert texts(work / "old") == OLD
    switch.move_in(data, work)
    with pytest.raises(RebuildError, match="REBUILD_DATA"):
        switch.begin_anew(work, data)  # nothing says that all of the new ones are there
    switch.keep_old(work)
    switch.begin_anew(work, data)
    assert not (work / "old").exists()


def test_beside_the_data_directory_unless_that_is_a_mount_point(tmp_path: Path) -> None:
    data = tmp_path / "mysql"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    assert switch.work_directory(tmp_path / "link") == tmp_path / "mysql.rebuild"
    with pytest.raises(RebuildError, match="REBUILD_DATA"):
        switch.work_directory(tmp_path / "absent")


def test_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rebuild")
    assert journal.read() is None
    entry = Entry(
        Stage.MOVING_OUT, "mail3", "mail2", "0-2-510", "0-1-500,0-2-510", ("/a", "/b"), keep_old=True, request="r"
    )
    journal.write(entry)
    assert Journal(tmp_path / "rebuild").read() == entry
    journal.take()
    with pytest.raises(RebuildError, match="REBUILD_RUNNING"):
        Journal(tmp_path / "rebuild").take()
    (tmp_path / "rebuild" / "journal.json").write_text("{}")
    with pytest.raises(RebuildError, match="REBUILD_DATA"):
        journal.read()
    journal.end(entry)
    assert journal.read() is None
    assert Journal(tmp_path / "rebuild").ended("r") == ["/a", "/b"]
    assert (journal.ended("another"), journal.ended("")) == (None, None)
    journal.hold()
    assert (tmp_path / "rebuild" / "hold").exists()
    journal.release()
    assert {path.name for path in (tmp_path / "rebuild").iterdir()} == {"lock", "ended.json"}


def test_the_units_condition_names_the_file_that_holds_it(tmp_path: Path) -> None:
    drop_in = Path(__file__).parents[2] / "systemd/mariadb.service.d/failoverd.conf"
    conditions = [line for line in drop_in.read_text().splitlines() if line.startswith("ConditionPathExists=!")]
    Journal(tmp_path / "rebuild").hold()
    (held,) = (tmp_path / "rebuild").iterdir()
    assert conditions == [f"ConditionPathExists=!/var/lib/failoverd/{held.relative_to(tmp_path)}"]
