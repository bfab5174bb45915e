"""A disk that is full: the record of a failover still fits, and somebody is told. On file systems of their own."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from audit_files import found_in

from failoverd.audit.file import AuditFile
from failoverd.audit.reserve import PIECE, SPARE, Reserve
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESERVE = 1 << 20
DISK = 16 << 20


def wall() -> datetime:
    return datetime(2026, 3, 1, 12, tzinfo=UTC)


@contextmanager
def mounted(place: Path, kind: str) -> Iterator[Path]:
    """A file system of 16 MiB."""
    disk, image = place / "disk", place / "image"
    disk.mkdir()
    if kind == "tmpfs":
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
    else:
        with image.open("wb") as file:
            file.truncate(DISK)
        subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True)
        mount = ["mount", "-o", "loop", str(image), str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip(f"no {kind} can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    """As somebody else who fills the disk, down to the last block."""
    with path.open("ab", buffering=0) as file:
        for piece in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * piece)
            except OSError:
                continue


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_the_record_of_a_failover_fits_on_a_full_disk(tmp_path: Path, kind: str) -> None:
    with mounted(tmp_path, kind) as disk:
        reserve = Reserve(disk / "audit.reserve", RESERVE)
        assert reserve.make()
        path, ballast = disk / "audit.jsonl", disk / "ballast"
        with closing(AuditFile(path, "mail1", BootClock(), wall, cluster="mail", reserve=reserve)) as audit:
            audit.append([{"kind": "step", "text": "before"}])
            for _ in range(6):  # somebody goes on filling it meanwhile
                fill(ballast)
                audit.append([{"kind": "decision", "text": "y" * 5000}] * 4)
            assert 0 < reserve.short < RESERVE
            assert not reserve.make()
            ballast.unlink()
            audit.append([{"kind": "step", "text": "after"}])
            assert reserve.make()
            assert (reserve.short, (disk / "audit.reserve").stat().st_size) == (0, RESERVE)
        records = [json.loads(line) for line in path.read_text().splitlines()]
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert any(record["kind"] == "audit-reserve" and "the disk is full" in record["text"] for record in records)
        assert [each for each in found_in(disk) if each.broken or "torn" in each.place.file] == []


@pytest.mark.root
def test_once_the_reserve_is_used_up_it_is_an_error(tmp_path: Path) -> None:
    with mounted(tmp_path, "tmpfs") as disk:
        reserve = Reserve(disk / "audit.reserve", 2 * PIECE)
        assert reserve.make()
        with closing(AuditFile(disk / "audit.jsonl", "mail1", BootClock(), wall, reserve=reserve)) as audit:
            written = 0
            with pytest.raises(OSError, match="No space left"):  # noqa: PT012 - until it is
                while True:
                    fill(disk / "ballast")
                    audit.append([{"kind": "step", "text": "y" * 5000}])
                    written += 1
            assert written > 0
            assert reserve.short == 2 * PIECE
            assert not (disk / "audit.reserve").exists()
            (disk / "ballast").unlink()
            audit.append([{"kind": "step", "text": "after"}])
        records = [json.loads(line) for line in (disk / "audit.jsonl").read_text().splitlines()]
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert any(record.get("text") == "after" for record in records)


@pytest.mark.root
def test_a_torn_end_is_kept_aside_on_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path, "tmpfs") as disk:
        reserve = Reserve(disk / "audit.reserve", RESERVE)
        assert reserve.make()
        path = disk / "audit.jsonl"
        with closing(AuditFile(path, "mail1", BootClock(), wall, cluster="mail", reserve=reserve)) as audit:
            audit.append([{"kind": "a"}])
        with path.open("ab") as file:
            file.write(b"\0" * 9000)
        fill(disk / "ballast")
        with closing(AuditFile(path, "mail1", BootClock(), wall, cluster="mail", reserve=reserve)) as audit:
            assert audit.sequence == 2
        (piece,) = disk.glob("*.torn-*")
        assert piece.read_bytes() == b"\0" * 9000
        assert [each for each in found_in(disk) if each.broken] == []


@pytest.mark.root
def test_a_reserve_takes_no_room_that_others_need(tmp_path: Path) -> None:
    with mounted(tmp_path, "tmpfs") as disk:
        (disk / "ballast").write_bytes(b"x" * (DISK - RESERVE - SPARE // 2))
        reserve = Reserve(disk / "audit.reserve", RESERVE)
        assert not reserve.make()
        assert reserve.short == RESERVE
        assert (disk / "audit.reserve").stat().st_size == 0


def test_there_may_be_none(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "audit.reserve", 0)
    assert reserve.make()
    assert not reserve.give(100)
    assert list(tmp_path.iterdir()) == []


def test_it_is_given_up_piece_by_piece(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "audit.reserve", 4 * PIECE)
    assert reserve.make()
    assert (reserve.give(100), reserve.short) == (True, PIECE)
    assert (reserve.give(PIECE), reserve.short) == (True, 3 * PIECE)
    assert (reserve.give(100), reserve.short) == (True, 4 * PIECE)
    assert (reserve.give(100), reserve.short) == (False, 4 * PIECE)
    assert reserve.make()
    assert reserve.short == 0
