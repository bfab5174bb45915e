from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failoverd.core.lease import Held, Memory
from failoverd.core.model import NodeName, Rejoin
from failoverd.runtime.clock import BootClock
from failoverd.runtime.persist import BOOT_ID_OF_UNIT, EXCHANGED_SIZE, LeaseFile, Noted, StateError, TermFile, boot_id

if TYPE_CHECKING:
    from pathlib import Path


def test_the_highest_term_survives(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    first = TermFile(directory)
    assert first.term == 0
    first.keep(Memory(7, NodeName("mail1"), 3000, 41))
    first.keep(Memory(7, NodeName("mail1"), 3000, 41))
    assert (first.term, TermFile(directory).memory) == (7, Memory(7, NodeName("mail1"), 3000, 41))
    assert sorted(os.listdir(directory)) == [".term.new", "term"]  # noqa: PTH208 - names are all that is asked


def test_what_counts_is_never_written_into(tmp_path: Path) -> None:
    """Also where there is no spare file and none can be made: a directory stands in its place."""
    TermFile(tmp_path).keep(Memory(7))
    (tmp_path / ".term.new").unlink()
    (tmp_path / ".term.new").mkdir()
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            TermFile(tmp_path).keep(Memory(8))
    (tmp_path / ".term.new").rmdir()
    before = (tmp_path / "term").stat().st_ino
    TermFile(tmp_path).keep(Memory(8))
    assert (tmp_path / "term").stat().st_ino != before
    assert (tmp_path / ".term.new").stat().st_ino == before


@pytest.mark.parametrize("left", [".term.old", ".term.new"])
def test_it_goes_on_from_wherever_it_was_ended(tmp_path: Path, left: str) -> None:
    file = TermFile(tmp_path)
    file.keep(Memory(7))
    (tmp_path / ".term.new").rename(tmp_path / left)
    (tmp_path / left).write_text("half a memor")
    TermFile(tmp_path).keep(Memory(8))
    assert TermFile(tmp_path).memory == Memory(8)
    assert sorted(os.listdir(tmp_path)) == [".term.new", "term"]  # noqa: PTH208 - likewise


def test_a_lower_term_is_refused(tmp_path: Path) -> None:
    file = TermFile(tmp_path)
    file.keep(Memory(7))
    with pytest.raises(StateError, match="term 6 is lower than 7"):
        file.keep(Memory(6))
    assert TermFile(tmp_path).term == 7


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0\0",
        b"7\n",
        b"null",
        b"[]",
        b'{"term": 7}',
        b'{"term": 8, "crc": "4f6b1ee7"}',
        b'{"term": -1}',
        b"\xff",
    ],
)
def test_a_damaged_term_is_an_error_and_not_zero(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "term").write_bytes(content)
    with pytest.raises(StateError, match="is damaged"):
        TermFile(tmp_path)
    assert (tmp_path / "term").read_bytes() == content


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 100), byte=st.integers(1, 255))
def test_no_changed_byte_makes_another_term(tmp_path: Path, where: int, byte: int) -> None:
    path = tmp_path / "term"
    path.unlink(missing_ok=True)
    TermFile(tmp_path).keep(Memory(123_456, NodeName("mail2"), 3000))
    content = bytearray(path.read_bytes())
    content[where % len(content)] ^= byte
    path.write_bytes(content)
    with suppress(StateError):
        assert TermFile(tmp_path).term == 123_456  # a changed blank


def test_a_file_of_a_release_that_kept_less_is_read_and_one_that_keeps_more_is_not(tmp_path: Path) -> None:
    def written(value: dict[str, object]) -> None:
        crc = f"{zlib.crc32(json.dumps(value).encode()):08x}"
        (tmp_path / "term").write_text(json.dumps(value | {"crc": crc}) + "\n")

    before = {"term": 7, "holder": "mail1", "ttl_ms": 3000, "takeover": None}
    written(before)
    assert TermFile(tmp_path).memory == Memory(7, NodeName("mail1"), 3000)
    written(before | {"caught_up": "run", "more": 1})
    with pytest.raises(StateError):
        TermFile(tmp_path)


def test_what_the_server_had_let_go_is_kept_and_is_a_number(tmp_path: Path) -> None:
    TermFile(tmp_path).keep(Memory(7, let_go=3))
    assert TermFile(tmp_path).memory.let_go == 3
    kept = json.loads((tmp_path / "term").read_text())
    del kept["crc"]
    for wrong in (-1, "3", True):
        value = kept | {"let_go": wrong}
        (tmp_path / "term").write_text(json.dumps(value | {"crc": f"{zlib.crc32(json.dumps(value).encode()):08x}"}))
        with pytest.raises(StateError):
            TermFile(tmp_path)


def test_what_the_record_said_of_the_rpo_is_kept(tmp_path: Path) -> None:
    TermFile(tmp_path).keep(Memory(7, unproven="since heartbeat 6", marks=3, floor_ms=12_000))
    memory = TermFile(tmp_path).memory
    assert (memory.unproven, memory.marks, memory.floor_ms) == ("since heartbeat 6", 3, 12_000)
    kept = json.loads((tmp_path / "term").read_text())
    del kept["crc"]
    for wrong in ({"unproven": None}, {"marks": -1}, {"marks": "3"}, {"floor_ms": -1}, {"floor_ms": None}):
        value = kept | wrong
        (tmp_path / "term").write_text(json.dumps(value | {"crc": f"{zlib.crc32(json.dumps(value).encode()):08x}"}))
        with pytest.raises(StateError):
            TermFile(tmp_path)


def test_killed_at_any_point_the_term_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    """A child raises the term for ever and says so; it is killed. What it said last is the least that is there."""
    code = (
        "import sys, pathlib; from failoverd.runtime.persist import TermFile\n"
        "from failoverd.core.lease import Memory\n"
        "file = TermFile(pathlib.Path(sys.argv[1]))\n"
        "while True: file.keep(Memory(file.term + 1)); print(file.term, flush=True)"
    )
    said = 0
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(20):
                said = int(child.stdout.readline())
            child.kill()
            said = max([said, *(int(line) for line in child.stdout if line.endswith(b"\n"))])
        assert TermFile(tmp_path).term in (said, said + 1)


def test_a_held_lease_is_found_again_in_the_same_boot(tmp_path: Path) -> None:
    held = Held(7, 41, 123_456)
    file = LeaseFile(tmp_path / "run", "boot-a")
    assert file.read() is None
    file.write(Held(7, 40, 123_000))
    file.write(held)
    assert LeaseFile(tmp_path / "run", "boot-a").read() == held
    assert LeaseFile(tmp_path / "run", "boot-b").read() is None
    file.clear()
    file.clear()
    assert file.read() is None


def test_a_lease_that_is_being_given_back_is_not_gone_on_with_and_still_has_its_end(tmp_path: Path) -> None:
    file, held = LeaseFile(tmp_path, "b"), Held(7, 41, 123_456)
    file.write(held, leaving=True)
    assert (file.read(), file.noted()) == (None, Noted(held, leaving=True))
    file.write(held)
    assert (file.read(), file.noted()) == (held, Noted(held))


def test_a_lease_says_when_its_daemon_begins_to_demote_itself(tmp_path: Path) -> None:
    held = Held(7, 41, 123_456)
    LeaseFile(tmp_path, "b", 2_500).write(held)
    assert LeaseFile(tmp_path, "b").noted() == Noted(held, 2_500)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"boot_id": "b", "term": 1, "version": true}'])
def test_a_damaged_lease_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lease").write_bytes(content)
    assert LeaseFile(tmp_path, "b").read() is None


def test_the_boot_has_a_name_and_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot_id() == boot_id() != ""
    ours = boot_id()
    monkeypatch.setenv(BOOT_ID_OF_UNIT, ours.replace("-", ""))  # as systemd writes it
    assert boot_id() == ours
    clock = BootClock()
    assert 0 < clock.now_ms() <= clock.now_ms()


def test_a_rebuild_that_is_asked_for_is_not_forgotten(tmp_path: Path) -> None:
    asked = Rejoin("r" * 64, NodeName("n" * 63), NodeName("m" * 63), "somebody" * 8, 7)
    kept = Memory(7, NodeName("h" * 63), 3000, 2**60, "boot-1000-100-7", rejoin=asked)
    TermFile(tmp_path).keep(kept)
    assert TermFile(tmp_path).memory == kept
    assert len((tmp_path / "term").read_text()) == EXCHANGED_SIZE  # as for any memory: the spare file has room for it
    TermFile(tmp_path).keep(Memory(7))
    assert TermFile(tmp_path).memory == Memory(7)


def test_all_that_may_be_remembered_at_once_has_room_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A rebuild asked for by somebody with another script, while RPO is unproven."""
    asked = Rejoin("r" * 64, NodeName("n" * 63), NodeName("m" * 63), "я" * 64, 7)
    why = "no replica acknowledges, and writes go on all the same, since heartbeat 123456 of term 7 of " + "h" * 63
    most = Memory(7, NodeName("h" * 63), 3000, 2**60, "boot-1000-100-7", 2**40, why, 2**20, asked, 16, 2**40)
    longer = Memory(7, unproven="w" * 2 * EXCHANGED_SIZE)  # another node's words: nothing bounds them here
    for memory in (most, longer, Memory(7), Memory(7, marks=1), longer, most):
        TermFile(tmp_path).keep(memory)
        assert TermFile(tmp_path).memory == memory
        if memory is not longer:
            assert len((tmp_path / "term").read_text()) == EXCHANGED_SIZE


@pytest.mark.parametrize("change", [{"term": "7"}, {"term": True}, {"by": None}, {"more": 1}, {"donor": 2}], ids=str)
def test_one_that_is_damaged_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    asked = {"id": "r", "node": "mail1", "donor": "mail3", "by": "anna", "term": 7}
    value = {"term": 7, "holder": None, "ttl_ms": 0, "takeover": None, "caught_up": "", "rejoin": asked | change}
    crc = f"{zlib.crc32(json.dumps(value).encode()):08x}"
    (tmp_path / "term").write_text(json.dumps(value | {"crc": crc}) + "\n")
    with pytest.raises(StateError, match="is damaged"):
        TermFile(tmp_path)


def test_failed_rebuilds_are_counted_across_a_restart(tmp_path: Path) -> None:
    TermFile(tmp_path).keep(Memory(7, rejoin_failures=3, rejoin_failed_ms=123_456))
    memory = TermFile(tmp_path).memory
    assert (memory.rejoin_failures, memory.rejoin_failed_ms) == (3, 123_456)
    kept = json.loads((tmp_path / "term").read_text())
    del kept["crc"]
    for wrong in ({"rejoin_failures": -1}, {"rejoin_failures": "3"}, {"rejoin_failed_ms": True}, {"rejoin_failed": 1}):
        value = kept | wrong
        (tmp_path / "term").write_text(json.dumps(value | {"crc": f"{zlib.crc32(json.dumps(value).encode()):08x}"}))
        with pytest.raises(StateError):
            TermFile(tmp_path)
