"""Which locks of a shared mail store are broken after a failover: real files, real ages."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from failoverd.actions.mailstore import SharedStore
from failoverd.core.model import Outcome

if TYPE_CHECKING:
    from pathlib import Path

NOW = 0.0
LONG_AGO = 365 * 24 * 3600.0  # seconds: before this machine was switched on


def lock(store: Path, content: str, age_s: float, name: str = "dovecot-uidlist.lock") -> Path:
    box = store / "anna" / "Maildir"
    box.mkdir(parents=True, exist_ok=True)
    path = box / name
    path.write_text(content)
    made = time.time() - age_s
    os.utime(path, (made, made))
    return path


@pytest.mark.parametrize(
    ("content", "age_s", "given", "broken"),
    [
        ("417:mail1", 2.0, False, True),
        ("417:mail3", 2.0, False, True),  # of the primary before the one that was lost in its promotion
        ("417:mail1.example.org\n", 2.0, False, True),  # what the host calls itself
        ("417:mail1", 2.0, True, False),  # alive, and may be at work
        ("417:mail1", 9.0, True, True),  # it hangs
        ("417:mail1", NOW, False, False),  # it may be at work, and ends that
        ("417:mail2", 2.0, False, False),  # this node's own
        ("417:mail2", LONG_AGO, False, True),  # of before it lost its power: the process id says nothing any more
        ("417:mail2.example.org", LONG_AGO, False, True),
        ("417:elsewhere", LONG_AGO, False, False),  # no member of the cluster
        ("", 2.0, False, True),  # its host stopped before it wrote who it is
        ("41", 2.0, False, True),
        ("\0" * 9, 2.0, False, True),  # as some file systems leave it behind
        ("", NOW, False, False),  # about to be written
        ("", 2.0, True, False),
        ("2 V1663 N7 G5d\n", 9.0, True, True),  # what its file is to hold
    ],
)
def test_the_locks_of_lost_nodes_are_broken_and_no_other(
    tmp_path: Path, content: str, age_s: float, *, given: bool, broken: bool
) -> None:
    path = lock(tmp_path, content, age_s)
    store = SharedStore(str(tmp_path), me="mail2", others=["mail1", "mail3", "arbiter"])
    result = store.break_locks(given=given, deadline_ms=1000)
    assert result.outcome is Outcome.SUCCEEDED
    assert path.exists() is not broken
    assert result.reason == ("1 locks broken" if broken else "")


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("dovecot.index.log.newlock", True),
        (".dovecot.lda-dupes.lock", True),
        ("subscriptions.lock", True),
        ("backup.lock", False),  # somebody else's
        ("dovecot.index.log", False),
    ],
)
def test_a_lock_that_does_not_say_whose_it_is_must_be_dovecot_s(tmp_path: Path, name: str, *, broken: bool) -> None:
    path = lock(tmp_path, "", 9.0, name)
    store = SharedStore(str(tmp_path), me="mail2", others=["mail1"])
    assert store.break_locks(given=False, deadline_ms=1000).outcome is Outcome.SUCCEEDED
    assert path.exists() is not broken


def test_messages_are_not_looked_at(tmp_path: Path) -> None:
    message = tmp_path / "anna" / "Maildir" / "cur" / "1.lock"
    message.parent.mkdir(parents=True)
    message.write_text("417:mail1")
    os.utime(message, (0, 0))
    store = SharedStore(str(tmp_path), me="mail2", others=["mail1"])
    assert store.break_locks(given=False, deadline_ms=1000).outcome is Outcome.SUCCEEDED
    assert message.exists()


def test_a_walk_that_takes_too_long_says_so(tmp_path: Path) -> None:
    lock(tmp_path, "417:mail1", 2.0)
    result = SharedStore(str(tmp_path), me="mail2", others=["mail1"]).break_locks(given=False, deadline_ms=0)
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "STORE_WALK_LONG")


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = SharedStore(str(tmp_path / "gone"), me="mail2", others=["mail1"]).break_locks(
        given=False, deadline_ms=1000
    )
    assert (result.outcome, result.code) == (Outcome.FAILED, "STORE_UNREADABLE")
    assert "gone" in result.reason


def test_a_walk_is_ended_when_the_store_is_to_be_left(tmp_path: Path) -> None:
    path = lock(tmp_path, "417:mail1", 9.0)
    store, stopped = SharedStore(str(tmp_path), me="mail2", others=["mail1"]), threading.Event()
    stopped.set()
    result = store.break_locks(given=False, deadline_ms=1000, stopped=stopped)
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "STORE_CANCELLED")
    assert path.exists()
    assert store.break_locks(given=False, deadline_ms=1000, stopped=threading.Event()).outcome is Outcome.SUCCEEDED
    assert not path.exists()
