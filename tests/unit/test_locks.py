"""A lock that somebody only looks at is not another owner's."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from failoverd import locks
from failoverd.runtime import guard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "guard"
    path.touch()
    return path


@pytest.fixture
def looking(file: Path) -> Iterator[int]:
    """Give a look that takes long: the lock as `is_owned` has it for a moment."""
    descriptor = os.open(file, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    yield descriptor
    os.close(descriptor)


def test_one_that_begins_while_somebody_looks_is_the_owner(file: Path, looking: int) -> None:
    later = threading.Timer(0.2, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
    later.start()
    marker = guard.Marker(file.parent)
    assert guard.missing(file.parent) is None
    marker.note("why")
    assert str(guard.missing(file.parent)) == str(guard.host.Refused("LEASH_REFUSED", "why"))
    later.join()


def test_a_second_owner_is_refused_and_the_first_one_stays(file: Path) -> None:
    first, second = os.open(file, os.O_RDONLY), os.open(file, os.O_RDONLY)
    locks.own(first)
    began = time.monotonic()
    with pytest.raises(BlockingIOError):
        locks.own(second)
    assert time.monotonic() - began >= locks.LOOK_S
    assert locks.is_owned(second)
    os.close(first)
    assert not locks.is_owned(second)
    locks.own(second)  # what only looked has let go
    os.close(second)
