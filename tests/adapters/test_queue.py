"""Holding and releasing a real Postfix's queue."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from mariadb_servers import wait_for
from postfix_stage import Stage, confined, staged

from failoverd.actions import CODES
from failoverd.actions.queue import PostfixQueue
from failoverd.core.model import Health, NodeName, Outcome, QueueFacts, Reading
from failoverd.ports import Target
from failoverd.probes.queue import QueueProbe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from failoverd.ports import Result

DEADLINE_MS = 20_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from staged(tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("above"))


@pytest.fixture
def postfix(running: Stage) -> Stage:
    running.begin()
    return running


def deferred(queue: PostfixQueue, number: int) -> None:
    wait_for(lambda: queue.waiting() == QueueFacts(0, number, 0, 0), name=f"{number} messages put off")


def hold(queue: PostfixQueue) -> Result:
    return asyncio.run(queue.hold(deadline_ms=DEADLINE_MS))


def release(queue: PostfixQueue) -> Result:
    return asyncio.run(queue.release(deadline_ms=DEADLINE_MS))


@pytest.mark.root
def test_what_was_held_here_is_released_and_an_administrators_hold_stays(postfix: Stage, tmp_path: Path) -> None:
    queue = postfix.queue(tmp_path)
    postfix.send(1)
    deferred(queue, 1)
    postfix.run("postsuper", "-h", "ALL")
    assert queue.waiting() == QueueFacts(0, 0, 0, 1)
    for number in (2, 3, 4):
        postfix.send(number)
    wait_for(lambda: queue.waiting() == QueueFacts(0, 3, 0, 1), name="three put off, one held")
    assert hold(queue).reason == "3 messages held"
    assert queue.waiting() == QueueFacts(0, 0, 3, 1)

    again = postfix.queue(tmp_path)  # a daemon that was restarted
    assert hold(again).reason == ""
    assert release(again).reason == "3 messages released"
    wait_for(lambda: again.waiting().moving + again.waiting().deferred == 3, name="three back in the queue")
    assert (again.waiting().held, again.waiting().held_by_others) == (0, 1)
    assert json.loads((tmp_path / "held.json").read_text()) == []


@pytest.mark.root
def test_an_id_that_is_in_no_queue_any_more_is_forgotten(postfix: Stage, tmp_path: Path) -> None:
    queue = postfix.queue(tmp_path)
    postfix.send(1)
    deferred(queue, 1)
    assert hold(queue).outcome is Outcome.SUCCEEDED
    assert len(json.loads((tmp_path / "held.json").read_text())) == 1
    postfix.run("postsuper", "-d", "ALL")
    assert hold(queue).outcome is Outcome.SUCCEEDED
    assert json.loads((tmp_path / "held.json").read_text()) == []


@pytest.mark.root
def test_an_empty_queue_starts_no_program(postfix: Stage, tmp_path: Path) -> None:
    postfix.postsuper.rename(postfix.postsuper.with_name("away"))
    try:
        queue = postfix.queue(tmp_path)
        assert hold(queue).outcome is release(queue).outcome is Outcome.SUCCEEDED
        postfix.send(1)
        deferred(queue, 1)
        result = hold(queue)
    finally:
        postfix.postsuper.with_name("away").rename(postfix.postsuper)
    assert (result.outcome, result.code) == (Outcome.FAILED, "QUEUE_NO_TOOLS")
    assert result.code in CODES
    assert queue.waiting() == QueueFacts(0, 1, 0, 0)


@pytest.mark.root
def test_the_unit_that_holds_at_boot_has_the_rights_for_it(postfix: Stage, tmp_path: Path) -> None:
    """Also before Postfix runs: what it finds when it starts is held."""
    postfix.send(1)
    deferred(postfix.queue(tmp_path), 1)
    gate = confined("failoverd-gate.service")
    postfix.run("postfix", "stop")
    # Debian's default, syslog: where Postfix writes its log itself, none of its programs can while it is stopped.
    postfix.run("postconf", "-e", "maillog_file=")
    try:
        seen = postfix.run(*gate, "find", "/var/spool/postfix/deferred", "-type", "f")
        one = seen.strip().rpartition("/")[2]
        postfix.run(*gate, "postsuper", "-h", "-", text=f"{one}\n")
    finally:
        postfix.run("postconf", "-e", "maillog_file=/var/log/postfix.log")
        postfix.run("postfix", "start")
    assert postfix.queue(tmp_path).waiting() == QueueFacts(0, 0, 0, 1)


@pytest.mark.root
def test_draining_waits_for_what_is_being_delivered_and_no_longer(postfix: Stage, tmp_path: Path) -> None:
    queue = postfix.queue(tmp_path)
    assert queue.drain(deadline_ms=0).outcome is Outcome.SUCCEEDED, "an empty queue costs a look"
    blocked = postfix.view / "var/spool/postfix/incoming/stays"
    blocked.touch(0o700)
    try:
        late = queue.drain(deadline_ms=300)
    finally:
        blocked.unlink()
    assert (late.outcome, late.code, late.code in CODES) == (Outcome.FAILED, "QUEUE_NOT_EMPTY", True)
    postfix.send(1)
    deferred(queue, 1)
    assert queue.drain(deadline_ms=2000).outcome is Outcome.SUCCEEDED, "what was put off is handed on later"


HALF_A_MESSAGE = """
import socket, time
with socket.create_connection(("127.0.0.1", 25)) as client:
    for line in ("EHLO c", "MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA", None):
        assert client.recv(4096)[:1] in b"23"
        client.sendall(f"{line}\\r\\n".encode() if line else b"Subject: half\\r\\n" * 1000)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.root
def test_a_message_whose_sender_has_not_come_to_its_end_is_none(postfix: Stage, tmp_path: Path) -> None:
    """Its client was cut off, and Postfix waits for it for minutes: that must not keep the others here."""
    queue = postfix.queue(tmp_path)
    postfix.start_python(HALF_A_MESSAGE)
    incoming = postfix.view / "var/spool/postfix/incoming"
    wait_for(lambda: any(path.is_file() for path in incoming.rglob("*")), name="half a message")
    assert queue.waiting() == QueueFacts(0, 0, 0, 0)
    assert queue.drain(deadline_ms=0).outcome is Outcome.SUCCEEDED
    postfix.send(1)
    deferred(queue, 1)
    assert hold(queue).reason == "1 messages held"


@pytest.mark.root
def test_the_probe_sees_what_waits_whatever_it_means(postfix: Stage, tmp_path: Path) -> None:
    queue = postfix.queue(tmp_path)
    postfix.send(1)
    deferred(queue, 1)
    target = Target(NodeName("mail1"), "127.0.0.1")
    assert asyncio.run(QueueProbe(queue.waiting).read(target)) == Reading(Health.OK, facts=QueueFacts(0, 1, 0, 0))
    nowhere = PostfixQueue(tmp_path / "spool", tmp_path / "held.json")
    reading = asyncio.run(QueueProbe(nowhere.waiting).read(target))
    assert (reading.health, reading.code) == (Health.FAILED, "QUEUE_FAILED")
    assert str(tmp_path / "spool") in reading.reason


def test_no_postfix_is_no_empty_queue(tmp_path: Path) -> None:
    result = hold(PostfixQueue(tmp_path / "spool", tmp_path / "held.json"))
    assert (result.outcome, result.code) == (Outcome.FAILED, "QUEUE_FAILED")
