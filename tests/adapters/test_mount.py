"""A mail store that is mounted and unmounted: real mounts, busy ones, and those that happen when nobody wants them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from failoverd.actions import CODES, mount
from failoverd.actions.mount import MOUNTINFO, Mounted, MountedStore, mounted_at, users_of
from failoverd.core.effects import Step, StepKind
from failoverd.core.model import Health, NodeName, Outcome, StoreFacts
from failoverd.runtime.clock import BootClock
from failoverd.runtime.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from failoverd.core.machine import StepEnded
    from failoverd.core.model import Reading
    from failoverd.ports import Result

SOURCE = "failoverd-test"
LONG_MS = 10_000  # for what ends by itself
SHORT_MS = 800  # for what does not
MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on, with nothing mounted there at the end."""
    path = tmp_path / "mail store"  # as the kernel writes it: mail\040store
    path.mkdir()
    yield path
    while mounted(path):
        run("umount", "--lazy", str(path))


def store(place: Path, **changes: Any) -> MountedStore:
    given = {"source": SOURCE, "type": "tmpfs", "options": ("size=1m", "mode=755"), "lock": place.parent / "lock"}
    return MountedStore(str(place), **(given | changes))


def mounted(place: Path) -> Mounted | None:
    return mounted_at(str(place), MOUNTINFO.read_text())


def checked(result: Result) -> tuple[Outcome, str]:
    assert (result.outcome is Outcome.SUCCEEDED) == (not result.code)
    assert not result.code or result.code in CODES
    return result.outcome, result.code


def take(of: MountedStore, deadline_ms: int = LONG_MS) -> Result:
    return asyncio.run(of.take(term=7, previous=MAIL1, deadline_ms=deadline_ms))


def release(of: MountedStore, deadline_ms: int = LONG_MS) -> Result:
    return asyncio.run(of.release(term=7, deadline_ms=deadline_ms))


def look(of: MountedStore) -> Reading:
    return asyncio.run(of.look(deadline_ms=SHORT_MS))


def wait_until(true: Callable[[], object], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


DONE = (Outcome.SUCCEEDED, "")

# ---- what the kernel says ----------------------------------------------------------------------------------------


def test_the_topmost_of_what_is_mounted_at_a_path_is_found() -> None:
    text = (
        "36 35 98:0 / /srv/mail rw,noatime shared:1 - ext4 /dev/sda rw\n"
        "37 36 0:52 / /srv/mail rw master:1 propagate_from:2 - nfs4 192.0.2.20:/mail rw,vers=4.2\n"
        "38 36 0:53 / /srv/mail\\040box rw - tmpfs none rw\n"
        "39 36 0:54 /sub /srv/mail/archive rw - ext4 /dev/sdb rw\n"
    )
    assert mounted_at("/srv/mail", text) == Mounted("192.0.2.20:/mail", "nfs4")
    assert mounted_at("/srv/mail box", text) == Mounted("none", "tmpfs")
    assert mounted_at("/srv", text) is None


# ---- taken and left ------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_it_is_taken_and_left_and_both_again(place: Path) -> None:
    here = store(place)
    assert look(here).facts == StoreFacts(here=False)
    for _ in range(2):
        assert checked(take(here)) == DONE
        assert mounted(place) == Mounted(SOURCE, "tmpfs")
    assert look(here).facts == StoreFacts(here=True)
    assert run("findmnt", "-no", "OPTIONS", str(place)).count("size=1024k") == 1
    for _ in range(2):
        assert checked(release(here)) == DONE
        assert mounted(place) is None


@pytest.mark.root
def test_a_store_that_is_mounted_twice_is_left_as_a_whole(place: Path) -> None:
    for _ in range(2):
        run("mount", "-t", "tmpfs", SOURCE, str(place))
    assert checked(release(store(place))) == DONE
    assert mounted(place) is None


@pytest.mark.root
def test_a_device_is_known_by_each_of_its_names(place: Path, tmp_path: Path) -> None:
    image, name = tmp_path / "image", tmp_path / "san"
    with image.open("wb") as made:
        made.truncate(8 << 20)
    run("mkfs.ext4", "-q", str(image))
    device = run("losetup", "--find", "--show", str(image))
    try:
        name.symlink_to(device)
        here = store(place, source=str(name), type="ext4", options=())
        for _ in range(2):
            assert checked(take(here)) == DONE
        assert mounted(place) == Mounted(device, "ext4")
        assert look(here).health is Health.OK
        assert checked(release(here)) == DONE
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("umount", str(place))
        run("losetup", "--detach", device)


@pytest.mark.root
def test_what_else_is_mounted_there_is_not_served_from(place: Path) -> None:
    run("mount", "-t", "tmpfs", "somebody-else", str(place))
    assert checked(take(store(place))) == (Outcome.FAILED, "STORE_FOREIGN")
    reading = look(store(place))
    assert (reading.health, reading.code) == (Health.FAILED, "STORE_FOREIGN")
    assert checked(release(store(place))) == DONE, "no node but the primary has anything mounted there"


@pytest.mark.root
def test_what_cannot_be_mounted_says_what_mount_says(place: Path) -> None:
    result = take(store(place, source="/dev/none-of-that-name", type="ext4", options=()))
    assert checked(result) == (Outcome.FAILED, "STORE_MOUNT_FAILED")
    assert "exit 32" in result.reason
    assert "none-of-that-name" in result.reason
    assert mounted(place) is None


def test_a_replica_knows_before_that_it_could_not(place: Path) -> None:
    reading = look(store(place, source="/dev/none-of-that-name"))
    assert (reading.health, reading.code) == (Health.FAILED, "STORE_NO_DEVICE")
    reading = look(store(place / "deeper"))
    assert (reading.health, reading.code) == (Health.FAILED, "STORE_NO_MOUNTPOINT")
    assert {"STORE_NO_DEVICE", "STORE_NO_MOUNTPOINT"} <= CODES.keys()
    assert look(store(place, source="192.0.2.20:/mail", type="nfs4")).health is Health.OK, "no server is asked"


# ---- busy ----------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_busy_store_is_not_left_and_who_keeps_it_is_named(place: Path) -> None:
    here = store(place)
    assert checked(take(here)) == DONE
    with subprocess.Popen(["sleep", "600"], cwd=place) as standing:
        try:
            result = release(here, 3 * SHORT_MS)
            assert checked(result) == (Outcome.FAILED, "STORE_BUSY")
            assert f"sleep[{standing.pid}]" in result.reason
            assert mounted(place) is not None
        finally:
            standing.kill()
    assert checked(release(here)) == DONE


@pytest.mark.root
def test_what_keeps_it_for_a_moment_only_is_waited_for(place: Path) -> None:
    here = store(place)
    assert checked(take(here)) == DONE
    with subprocess.Popen(["sleep", "0.5"], cwd=place):
        assert checked(release(here)) == DONE
    assert mounted(place) is None


@pytest.mark.parametrize("how", ["cwd", "descriptor", "maps"])
def test_users_are_found_by_each_of_their_links(place: Path, how: str) -> None:
    file = place / "mailbox"
    file.write_bytes(b"x" * 8192)
    script = {
        "cwd": "import os, time; os.chdir({place!r})",
        "descriptor": "import time; kept = open({file!r})",
        "maps": "import mmap, os, time; d = os.open({file!r}, os.O_RDONLY); "
        "kept = mmap.mmap(d, 8192, prot=mmap.PROT_READ); os.close(d)",
    }[how].format(place=str(place), file=str(file))
    with subprocess.Popen(["python3", "-c", f"{script}; print(flush=True); time.sleep(600)"], stdout=-1) as user:
        try:
            assert user.stdout is not None
            user.stdout.readline()
            assert users_of(str(place)) == [f"python3[{user.pid}]"]
            assert users_of(str(place.parent / "mail")) == [], "not by the beginning of a name"
        finally:
            user.kill()


# ---- late ----------------------------------------------------------------------------------------------------------


def late_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: Path) -> None:
    """In place of mount(8), one that the kernel holds up: no signal ends it, and it mounts once `go` is there."""
    program = tmp_path / "mount"
    waits = f"while [ ! -e {go} ]; do sleep 0.02; done"
    program.write_text(f'#!/bin/sh\nset -- "$6" "$7"\nsetsid sh -c \'{waits}; mount -t tmpfs "$0" "$1"\' "$@" & wait\n')
    program.chmod(0o755)
    monkeypatch.setattr(mount, "MOUNT", str(program))


@pytest.mark.root
def test_a_mount_that_happens_late_is_not_said_to_be_left_before_and_is_left_after(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    late_mount(tmp_path, monkeypatch, go)
    assert checked(take(store(place), SHORT_MS)) == (Outcome.UNKNOWN, "STORE_MOUNT_TIMEOUT")
    assert mounted(place) is None
    # Another daemon of the same boot, which knows nothing of it but the lock.
    assert checked(release(store(place))) == (Outcome.UNKNOWN, "STORE_MOUNT_RUNS")
    assert checked(take(store(place))) == (Outcome.UNKNOWN, "STORE_MOUNT_RUNS")
    go.touch()
    wait_until(lambda: mounted(place))
    assert look(store(place)).facts == StoreFacts(here=True), "what the plan needs to know to leave it"
    wait_until(lambda: release(store(place)).outcome is Outcome.SUCCEEDED)
    assert mounted(place) is None


def test_nothing_is_begun_beside_a_mount_that_has_not_ended(place: Path) -> None:
    here = store(place)
    descriptor = os.open(place.parent / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert checked(take(here)) == (Outcome.UNKNOWN, "STORE_MOUNT_RUNS")
    assert checked(release(here)) == (Outcome.UNKNOWN, "STORE_MOUNT_RUNS")
    os.close(descriptor)
    assert checked(release(here)) == DONE


# ---- with the lease ------------------------------------------------------------------------------------------------


class Unused:
    """What these steps do not touch."""


def performed(of: MountedStore, kind: StepKind, held_until_ms: Callable[[], int]) -> StepEnded:
    async def story() -> StepEnded:
        answer: asyncio.Future[StepEnded] = asyncio.get_running_loop().create_future()
        unused: Any = Unused()
        executor = Executor(
            node=MAIL2,
            clock=BootClock(),
            gate=unused,
            database=unused,
            heart=unused,
            units=unused,
            store=unused,
            prove=unused,
            deliver=answer.set_result,
            broken=answer.set_exception,
            moved=of,
            held_until_ms=held_until_ms,
        )
        executor.perform(Step(kind=kind, term=7, number=1, deadline_ms=LONG_MS, previous=MAIL1), until_ms=0)
        return await asyncio.wait_for(answer, 20)

    return asyncio.run(story())


@pytest.mark.root
def test_without_the_lease_nothing_is_mounted_and_everything_unmounted(place: Path) -> None:
    here = store(place)
    ended = performed(here, StepKind.TAKE_STORE, lambda: 0)
    assert (ended.outcome, ended.code) == (Outcome.UNKNOWN, "STORE_LATE")
    assert mounted(place) is None
    assert checked(take(here)) == DONE
    assert performed(here, StepKind.RELEASE_STORE, lambda: 0).outcome is Outcome.SUCCEEDED
    assert mounted(place) is None


@pytest.mark.root
def test_a_mount_may_last_as_long_as_the_lease_is_renewed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, clock = tmp_path / "go", BootClock()
    late_mount(tmp_path, monkeypatch, go)
    began_ms = clock.now_ms()

    def renewed() -> int:
        if clock.now_ms() - began_ms > 1000:
            go.touch()
        return clock.now_ms() + 300

    assert performed(store(place), StepKind.TAKE_STORE, renewed).outcome is Outcome.SUCCEEDED
    assert clock.now_ms() - began_ms > 1000
    assert mounted(place) == Mounted(SOURCE, "tmpfs")


@pytest.mark.root
def test_a_mount_whose_lease_ends_is_not_taken_for_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, clock = tmp_path / "go", BootClock()
    late_mount(tmp_path, monkeypatch, go)
    began_ms = clock.now_ms()
    ended = performed(store(place), StepKind.TAKE_STORE, lambda: began_ms + 500)
    assert (ended.outcome, ended.code) == (Outcome.UNKNOWN, "STORE_LATE")
    assert clock.now_ms() - began_ms < LONG_MS / 2
    go.touch()
    wait_until(lambda: mounted(place))
    wait_until(lambda: release(store(place)).outcome is Outcome.SUCCEEDED)
