"""What clears up after a drill leaves the evidence alone that the drill has found."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from drill_stage import ASKED, reports
from node_certificates import Authority

from failoverd.config import load
from failoverd.drill import model
from failoverd.drill.book import Book
from failoverd.drill.model import Note, Report
from failoverd.drill.recover import recover
from failoverd.drill_files import CURRENT, DIRECTORY, PAGE, REPORT, STATE

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.config import Config


@pytest.fixture
def config(config_file: Path, tmp_path: Path) -> Config:
    config = load(config_file, "mail2")
    files = Authority(tmp_path).node("mail2", "127.0.0.1")
    peer = {"ca": files.ca, "certificate": files.certificate, "key": files.key}
    return config.model_copy(update={"peer": config.peer.model_copy(update=peer)})


def cleared(config: Config, state: Path) -> bool:
    return asyncio.run(recover(config, state, state / "no.sock", print))


def test_a_report_that_is_there_keeps_its_evidence(config: Config, tmp_path: Path) -> None:
    book = Book.opened(tmp_path, ASKED, "mail-berlin", print)
    # It ended and something was left; who would have to be asked (`cast`) is nobody here.
    written = reports()["passed"]
    drill = replace(written.drill, cast=None, fault=None, clean=False, notes=(Note(at_ms=1, text="it may be left"),))
    book.change(**{name: getattr(drill, name) for name in ("phases", "notes", "outcome", "ended")})
    (book.place / REPORT).write_bytes(model.dump(replace(written, drill=drill)))
    assert cleared(config, tmp_path)
    made = model.load(Report, (book.place / REPORT).read_bytes())
    assert replace(made, drill=drill) == replace(written, drill=drill)
    assert made.drill.clean
    assert made.drill.outcome == "passed"
    assert ASKED.id in (book.place / PAGE).read_text()
    assert json.loads((book.place / STATE).read_bytes())["clean"]
    assert not (tmp_path / DIRECTORY / CURRENT).exists()


def test_a_drill_that_had_no_time_for_a_report_gets_one(config: Config, tmp_path: Path) -> None:
    book = Book.opened(tmp_path, ASKED, "mail-berlin", print)
    assert cleared(config, tmp_path)
    made = model.load(Report, (book.place / REPORT).read_bytes())
    assert (made.drill.outcome, made.drill.code, made.drill.clean) == ("failed", "DRILL_ENDED", True)
    assert cleared(config, tmp_path)  # nothing is left to clear
