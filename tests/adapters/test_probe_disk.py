"""The write probe against real file systems: memory, and small ext4 images that are full, read-only, or hang."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from failoverd.core.lease import Memory
from failoverd.core.model import Health, NodeName, Observation
from failoverd.ports import Target
from failoverd.probes.deadline import observe
from failoverd.probes.disk import WRITER, DiskProbe
from failoverd.probes.disk_writer import NAME
from failoverd.runtime.clock import BootClock
from failoverd.runtime.persist import TermFile

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_MS = 500
PATIENCE_MS = 10_000  # for what must succeed, on a machine that does other things as well
ME = Target(NodeName("mail1"), "10.89.1.11")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A mounted ext4 of 16 MiB, without reserve."""
    # Where others may come as well: pytest's own directory is root's alone.
    place, file = Path(tempfile.mkdtemp(prefix="failoverd-disk-")), tmp_path / "image"
    with file.open("wb") as made:
        made.truncate(16 << 20)
    run("mkfs.ext4", "-q", "-m", "0", str(file))
    run("mount", "-o", "loop", str(file), str(place))
    yield place
    with contextlib.suppress(subprocess.CalledProcessError):
        run("fsfreeze", "-u", str(place))
    run("umount", "--lazy", str(place))
    place.rmdir()


def fill(place: Path) -> None:
    """Take what a user may take, to the last block."""
    with (place / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (65536, 1024, 1):
            with contextlib.suppress(OSError):
                while os.statvfs(place).f_bavail > 0:
                    filler.write(b"x" * size)
                    os.fsync(filler.fileno())


def writers(path: Path) -> list[int]:
    """The processes that write to `path`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if str(WRITER).encode() in words and str(path).encode() in words:
                found.append(int(entry.name))
    return found


def wait_until_no_writer(path: Path) -> None:
    end = time.monotonic() + 10
    while writers(path):
        assert time.monotonic() < end, "a writer outlives its daemon"
        time.sleep(0.01)


async def look(probe: DiskProbe, deadline_ms: int = DEADLINE_MS) -> Observation:
    return await observe("disk", probe, ME, deadline_ms, BootClock())


def looked(path: Path, locks: Path, times: int = 1) -> list[tuple[Health, str]]:
    async def looking() -> list[tuple[Health, str]]:
        probe = DiskProbe(str(path), locks)
        readings = [(await look(probe, PATIENCE_MS)).reading for _ in range(times)]
        await probe.close()
        return [(reading.health, reading.code) for reading in readings]

    return asyncio.run(looking())


def test_a_sound_disk_is_written_again_and_again_by_one_process(tmp_path: Path) -> None:
    assert looked(tmp_path, tmp_path, 5) == [(Health.OK, "")] * 5
    assert (tmp_path / NAME).stat().st_size > 0
    wait_until_no_writer(tmp_path)


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    assert looked(tmp_path / "gone", tmp_path) == [(Health.FAILED, "DISK_IO")]


def test_a_writer_that_was_killed_is_started_again(tmp_path: Path) -> None:
    async def looking() -> None:
        probe = DiskProbe(str(tmp_path), tmp_path)
        assert (await look(probe, PATIENCE_MS)).reading.health is Health.OK
        os.kill(writers(tmp_path)[0], signal.SIGKILL)
        for _ in range(3):
            reading = (await look(probe, PATIENCE_MS)).reading
            if reading.health is Health.OK:
                break
            assert reading.health is Health.UNKNOWN, "its death is no word about the disk"
        assert reading.health is Health.OK
        await probe.close()

    asyncio.run(looking())


@pytest.mark.root
def test_a_full_disk(image: Path, tmp_path: Path) -> None:
    assert looked(image, tmp_path) == [(Health.OK, "")]
    fill(image)
    assert looked(image, tmp_path) == [(Health.FAILED, "DISK_FULL")]
    (image / "filler").unlink()
    assert looked(image, tmp_path) == [(Health.OK, "")]


@pytest.mark.root
def test_a_term_is_remembered_on_a_full_disk(image: Path) -> None:
    TermFile(image).keep(Memory(1))
    fill(image)
    for term in range(2, 20):
        TermFile(image).keep(Memory(term))
    assert TermFile(image).term == 19
    with pytest.raises(OSError, match="No space left"):
        (image / "anything else").write_bytes(b"x" * 5000)


@pytest.mark.root
def test_what_is_reserved_for_root_is_not_counted_on(image: Path, tmp_path: Path) -> None:
    device = next(
        line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(image)
    )
    run("tune2fs", "-m", "20", device)
    os.chown(image, 65534, 65534)
    fill(image)
    assert os.statvfs(image).f_bfree > 0
    assert looked(image, tmp_path) == [(Health.FAILED, "DISK_FULL")]


@pytest.mark.root
def test_a_read_only_disk(image: Path, tmp_path: Path) -> None:
    run("mount", "-o", "remount,ro", str(image))
    assert looked(image, tmp_path) == [(Health.FAILED, "DISK_READ_ONLY")]


@pytest.mark.root
def test_a_hung_disk_is_told_at_once_each_time_and_never_has_a_second_writer(image: Path, tmp_path: Path) -> None:
    async def looking() -> None:
        probe = DiskProbe(str(image), tmp_path)
        assert (await look(probe, PATIENCE_MS)).reading.health is Health.OK
        run("fsfreeze", "-f", str(image))
        for _ in range(4):
            reading = (await look(probe)).reading
            assert (reading.health, reading.code) == (Health.FAILED, "DISK_HUNG")
        assert len(writers(image)) == 1
        run("fsfreeze", "-u", str(image))
        end = time.monotonic() + 10
        while (await look(probe, PATIENCE_MS)).reading.health is not Health.OK:
            assert time.monotonic() < end, "a disk that came back is not seen"
            await asyncio.sleep(0.01)
        await probe.close()

    asyncio.run(looking())
    wait_until_no_writer(image)


@pytest.mark.root
def test_the_daemon_that_is_started_next_adds_no_writer_that_hangs(image: Path, tmp_path: Path) -> None:
    async def hang() -> None:
        probe = DiskProbe(str(image), tmp_path)
        assert (await look(probe, PATIENCE_MS)).reading.health is Health.OK
        run("fsfreeze", "-f", str(image))
        assert (await look(probe)).reading.code == "DISK_HUNG"
        await probe.close()  # its writer cannot end

    asyncio.run(hang())
    (hung,) = writers(image)
    assert looked(image, tmp_path, 3) == [(Health.FAILED, "DISK_HUNG")] * 3
    end = time.monotonic() + 10
    while writers(image) != [hung]:
        assert time.monotonic() < end, "the second writer hangs as well"
        time.sleep(0.01)
    run("fsfreeze", "-u", str(image))
    wait_until_no_writer(image)
    assert looked(image, tmp_path) == [(Health.OK, "")]
