"""What is left in a queue is read with few calls, from a real Postfix, and whole where a mail leaves it meanwhile."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from mariadb_servers import wait_for
from postfix_stage import Stage, staged
from trials import lost
from trials.lost import queued_idents

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

MAILS = 23


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from staged(tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("above"))


def test_many_mails_are_read_with_few_calls(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "AT_ONCE", 10)
    stage.begin()
    for number in range(MAILS):
        stage.send(number)
    stage.send("nobodys", ident=False)  # Postfix gives it one of its own
    waiting = stage.queue(tmp_path_factory.mktemp("memory")).waiting
    wait_for(lambda: waiting().deferred == MAILS + 1, name="all are put off")
    found = stage.run("find", "/var/spool/postfix/deferred", "-type", "f", "-printf", "%f\n").split()
    calls: list[int] = []

    def heads(ids: list[str]) -> tuple[bool, str]:
        calls.append(len(ids))
        ended = subprocess.run([stage.tools["postcat"], "-qh", *ids], capture_output=True, text=True, check=False)
        return ended.returncode == 0, ended.stdout

    every = {str(number) for number in range(MAILS)}
    read = queued_idents(found, heads)
    assert (every < read, len(read)) == (True, MAILS + 1)
    assert sorted(calls) == [4, 10, 10]
    calls.clear()
    gone = [*found[:5], "3F2A3F2A3F", *found[5:], "4F2A3F2A3F"]  # two that were delivered since the queue was listed
    assert queued_idents(gone, heads) == read
    assert len(calls) < len(gone)
    assert queued_idents([], heads) == set()
