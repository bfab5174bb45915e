"""What the daemon sees of a rebuild: its newest word, and whether it lives."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from failoverd.core.model import Health, NodeName, RebuildFacts
from failoverd.ports import Target
from failoverd.probes.rebuild import WORDS, RebuildProbe
from failoverd.rebuild import RebuildError
from failoverd.rebuild.progress import Progress
from failoverd.rebuild_files import FILE, LOCK, REQUEST, ask, is_running

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.core.model import Reading

HOLDS = """
import sys, pathlib
from failoverd.rebuild.progress import Progress
progress = Progress(pathlib.Path(sys.argv[1]), "r1")
progress.take()
progress.say("receive", bytes=10, of=40, rate=5, left_s=6)
sys.stdin.read()
"""


def look(runtime: Path) -> Reading:
    return asyncio.run(RebuildProbe(runtime).read(Target(NodeName("mail1"), "10.89.1.11")))


def test_one_that_lives_and_one_that_was_killed(tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    assert look(tmp_path) == look(runtime)
    assert look(tmp_path).facts is None
    with subprocess.Popen([sys.executable, "-c", HOLDS, runtime], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert json.loads(run.stdout.readline())["stage"] == "receive"
        expected = RebuildFacts("r1", "receive", False, False, 10, 40, 5, 6)
        while not (runtime / FILE).exists():  # the line comes first
            assert run.poll() is None
        seen = look(runtime).facts
        assert isinstance(seen, RebuildFacts)
        assert (seen.running, seen.received) == (True, 10)
        with pytest.raises(RebuildError, match="REBUILD_RUNNING"):
            Progress(runtime).take()
        assert is_running(runtime), "a look takes nothing away"
        run.kill()
    assert look(runtime).facts == expected


@pytest.mark.parametrize("content", ["", "{", "\0"])
def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert (look(tmp_path).health, look(tmp_path).code) == (Health.UNKNOWN, "REBUILD_UNSEEN")


def test_odd_words_are_left_out(tmp_path: Path) -> None:
    odd = {"bytes": "x", "of": -1, "left_s": None, "touched": "yes"}
    (tmp_path / FILE).write_text(json.dumps({"stage": "failed", "reason": "y" * 999, "code": "C", **odd}))
    expected = RebuildFacts("", "failed", running=False, touched=False, code="C", reason="y" * WORDS)
    assert look(tmp_path).facts == expected
    (tmp_path / FILE).write_text(json.dumps({"stage": "done", "ahead": ["/a", "/b"]}))
    seen = look(tmp_path).facts
    assert isinstance(seen, RebuildFacts)
    assert seen.saved == "/a, /b"
    (tmp_path / FILE).write_text("[]")
    assert look(tmp_path).facts is None


def test_what_is_asked_of_it(tmp_path: Path) -> None:
    ask(tmp_path, request="r1", donor="mail3", from_primary=False)
    asked = json.loads((tmp_path / REQUEST).read_text())
    assert asked == {"request": "r1", "donor": "mail3", "from_primary": False}
    assert not (tmp_path / LOCK).exists()
