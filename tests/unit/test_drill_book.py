"""The state of a drill on disk: whole at every moment, durable before the next step, and found again."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from failoverd.drill import book as book_module
from failoverd.drill import model
from failoverd.drill.book import Book
from failoverd.drill.model import Asked, Drill, PhaseName
from failoverd.drill_files import CURRENT, DIRECTORY, STATE

ASKED = Asked(id="20261129-020000-switchover", scenario="switchover", by="anna", users=0, duration_s=10)
# Writes for ever, and says how often it has.
WRITER = """
import sys
from pathlib import Path
from failoverd.drill.book import Book
book = Book.unfinished(Path(sys.argv[1]), lambda _: None)
print("begun", flush=True)
number = 0
while True:
    book.note("x" * (number % 7 * 3000))
    book.change(notes=book.drill.notes[-5:])
    number += 1
"""


def opened(state: Path) -> Book:
    return Book.opened(state, ASKED, "lab", lambda _: None)


def again(state: Path) -> Book:
    book = Book.unfinished(state, lambda _: None)
    assert book is not None
    return book


def on_disk(state: Path) -> Drill:
    return model.load(Drill, (state / DIRECTORY / ASKED.id / STATE).read_bytes())


def test_a_drill_is_found_again_until_nothing_of_it_is_left(tmp_path: Path) -> None:
    book = opened(tmp_path)
    book.begin(PhaseName.PREFLIGHT)
    book.found(primary="mail1")
    assert again(tmp_path).drill == book.drill == on_disk(tmp_path)
    book.end("passed")
    book.conclude("passed")
    assert again(tmp_path).drill.outcome == "passed"
    book.close()
    assert Book.unfinished(tmp_path, lambda _: None) is None
    assert on_disk(tmp_path).clean


def test_when_everything_is_taken_back_a_disk_that_takes_nothing_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    book = Book.opened(tmp_path, ASKED, "lab", told.append)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(book_module, "write_durably", full)
        with pytest.raises(OSError, match="No space"):
            book.begin(PhaseName.INJECT)
        book.leniently()
        book.conclude("failed", "DRILL_BUG", "no space")
        book.note("the fault is gone")
        book.close()
        assert len([line for line in told if "No space left" in line]) == 1
        assert again(tmp_path).drill.outcome == "under-way", "whoever comes next still finds it"
    book.close()
    assert Book.unfinished(tmp_path, told.append) is None
    assert (on_disk(tmp_path).outcome, on_disk(tmp_path).clean) == ("failed", True)


def test_one_that_is_found_again_goes_on_with_its_clock(tmp_path: Path) -> None:
    book = opened(tmp_path)
    book.change(began="2026-01-01T00:00:00.000Z")
    assert again(tmp_path).now_ms() > 86_400_000


def test_the_first_word_of_how_it_ended_counts(tmp_path: Path) -> None:
    book = opened(tmp_path)
    book.conclude("failed", "DRILL_LOST", "two are missing")
    book.conclude("passed")
    assert (book.drill.outcome, book.drill.code) == ("failed", "DRILL_LOST")
    book.end("passed")  # no phase is under way
    assert book.drill.phases == ()


def test_what_was_half_written_is_not_what_is_read(tmp_path: Path) -> None:
    book = opened(tmp_path)
    book.begin(PhaseName.BACKUP)
    whole = (book.place / STATE).read_bytes()
    (book.place / f".{STATE}.new").write_bytes(whole[: len(whole) // 2])
    assert again(tmp_path).drill == book.drill
    book.end("passed")
    assert on_disk(tmp_path).phases[-1].outcome == "passed"


def test_every_step_is_on_disk_before_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = opened(tmp_path)
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(f"sync {path.name}")

    def replaced(self: Path, target: Path) -> Path:
        done.append(f"replace {self.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    steps: list[Any] = [
        lambda: book.begin(PhaseName.INJECT),
        lambda: book.found(asked="mail2"),
        lambda: book.note("it has begun"),
        lambda: book.fault(None),
        lambda: book.end("passed"),
        lambda: book.conclude("passed"),
    ]
    for step in steps:
        done.clear()
        step()
        assert done == [f"sync .{STATE}.new", f"replace .{STATE}.new", f"sync {ASKED.id}"]
        assert on_disk(tmp_path) == book.drill
    book.close()
    assert done[-1] == f"sync {DIRECTORY}"


def test_a_disk_that_takes_no_more_leaves_the_former_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = opened(tmp_path)
    book.begin(PhaseName.BACKUP)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        book.end("passed")
    assert on_disk(tmp_path).phases[-1].outcome == "under-way"


def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    opened(tmp_path)
    rng = random.Random(6)  # noqa: S311 - moments, not keys
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        signal.sigtimedwait({signal.SIGUSR2}, rng.random() / 10)  # a moment by chance
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert again(tmp_path).drill.asked == ASKED
    assert on_disk(tmp_path).notes


def test_a_state_that_is_no_state_is_told(tmp_path: Path) -> None:
    book = opened(tmp_path)
    (book.place / STATE).write_text('{"api": "v1", "asked"')
    with pytest.raises(ValueError, match="Invalid JSON"):
        Book.unfinished(tmp_path, lambda _: None)
    assert Book.current(tmp_path) == ASKED.id
    Book.forget(tmp_path)
    Book.forget(tmp_path)
    assert not (tmp_path / DIRECTORY / CURRENT).exists()
