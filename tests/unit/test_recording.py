"""The audit as a daemon has it: it is as the configuration wants it, its keeper works, and its trouble is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from failoverd.audit import layout
from failoverd.config import load
from failoverd.runtime.clock import BootClock
from failoverd.runtime.fitness import about
from failoverd.runtime.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def recording(config_file: Path, example: str, tmp_path: Path) -> Recording:
    place = tmp_path / "audit"
    shown = example.replace("/var/lib/failoverd/audit, rotate_megabytes: 16", f"{place}, rotate_megabytes: 1")
    config_file.write_text(shown)
    return Recording(load(config_file, "mail1"), BootClock())


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_written_is_kept_in_order_beside(recording: Recording, tmp_path: Path) -> None:
    place = tmp_path / "audit"
    for _ in range(3):
        for _ in range(5):
            recording.audit.append([{"kind": "step", "text": "x" * 250_000}])
    recording.start()
    until(lambda: sum(each.packed for each in layout.closed(place)) == 1)
    recording.stop()
    assert (place / layout.RESERVE).stat().st_size == 4 << 20
    assert recording.refused() == ()
    recording.audit.append([{"kind": "step", "text": "and what is packed"}])
    assert b'"audit-closed"' in (place / layout.NAME).read_bytes()
    assert b'"cluster":"lab"' in b"".join(layout.opened(layout.paths(place)[0]))


def test_what_is_written_is_the_past(recording: Recording) -> None:
    recording.past.load()
    recording.audit.append([{"kind": "paused", "text": "paused by anna"}])
    assert [event.text for event in recording.past.known.events] == ["paused by anna"]


def test_a_reserve_that_is_not_whole_is_told_and_blocks(recording: Recording) -> None:
    reserve = recording.reserve
    assert reserve.make()
    assert reserve.give(1000)
    (refused,) = recording.refused()
    assert refused.code == "AUDIT_DISK_FULL"
    assert "65536 of 4194304 bytes of its reserve" in refused.reason
    assert about(refused.code).severity.value == "blocks"
    assert reserve.make()
    assert recording.refused() == ()
