"""The queue of one real Postfix, handed on to another one, with real mailboxes: each message once, none lost."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from mariadb_servers import wait_for
from postfix_stage import NOBODY_LISTENS_AT, PRIMARY_PORT, TLS_PORT, Stage, staged

from failoverd.actions import CODES
from failoverd.actions.handon import TOOLS
from failoverd.actions.queue_journal import Journal
from failoverd.config import load
from failoverd.core.effects import Step, StepKind
from failoverd.core.model import NodeName, Outcome, QueueFacts
from failoverd.runtime import drop
from failoverd.runtime.clock import BootClock
from failoverd.runtime.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from failoverd.core.events import StepEnded
    from failoverd.ports import Result

DEADLINE_MS = 60_000
NOBODY = 2598

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from staged(tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("above"))


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.begin()
    return running


def put_off(stage: Stage, number: int, memory: Path) -> None:
    queue = stage.queue(memory)
    wait_for(lambda: queue.waiting().deferred == number, name=f"{number} messages put off")


def run(stage: Stage, memory: Path, *, own: bool = False, port: int | None = None) -> Result:
    hand_on = stage.hand_on(memory) if port is None else stage.hand_on(memory, port=port)
    result = asyncio.run(hand_on.run(NodeName("mail2"), "127.0.0.1", own=own, deadline_ms=DEADLINE_MS))
    assert not result.code or result.code in CODES
    return result


def test_each_message_arrives_once_and_what_was_delivered_is_not_again(stage: Stage, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        stage.send(number)
    put_off(stage, 3, tmp_path)
    stage.save(stage.ids()[0], "b@example.test")
    result = run(stage, tmp_path)
    assert result.outcome is Outcome.SUCCEEDED, result
    assert result.reason.startswith("3 held, 1 there already, 2 handed on; the last as 250 2.0.0 Ok: queued as ")
    assert stage.ids() == []
    stage.arrived("body 1", "body 2", "body 3")
    assert run(stage, tmp_path).reason == "0 held"


def test_two_messages_with_one_message_id_are_two(stage: Stage, tmp_path: Path) -> None:
    stage.send("same")
    stage.send("same")
    stage.send("none", ident=False)
    stage.send("none", ident=False)
    put_off(stage, 4, tmp_path)
    for one in stage.ids()[:1]:
        stage.save(one, "b@example.test")
    assert run(stage, tmp_path).outcome is Outcome.SUCCEEDED
    stage.arrived("body same", "body same", "body none", "body none")


def test_each_recipient_by_itself_with_an_extension_or_without(stage: Stage, tmp_path: Path) -> None:
    stage.send("both", ("b+list@example.test", "c@example.test"))
    put_off(stage, 1, tmp_path)
    stage.save(stage.ids()[0], "b@example.test")
    assert run(stage, tmp_path).outcome is Outcome.SUCCEEDED
    stage.arrived("body both")
    stage.arrived("body both", user="c@example.test")


def test_what_is_refused_stays_and_says_so(stage: Stage, tmp_path: Path) -> None:
    stage.send("out", ("x@elsewhere.test",))
    stage.send("in")
    put_off(stage, 2, tmp_path)
    result = run(stage, tmp_path)
    assert (result.outcome, result.code) == (Outcome.FAILED, "QUEUE_REFUSED")
    assert "1 refused" in result.reason
    assert "for x@elsewhere.test: 554" in result.reason
    stage.arrived("body in")
    assert len(stage.ids()) == 1


def test_a_primary_that_does_not_answer_gets_it_later(stage: Stage, tmp_path: Path) -> None:
    stage.send("late")
    put_off(stage, 1, tmp_path)
    result = run(stage, tmp_path, port=NOBODY)
    assert (result.outcome, result.code) == (Outcome.FAILED, "QUEUE_LEFT")
    assert "refused" in result.reason
    assert run(stage, tmp_path).outcome is Outcome.SUCCEEDED
    stage.arrived("body late")


@pytest.mark.parametrize(("tls", "port"), [("starttls", PRIMARY_PORT), ("implicit", TLS_PORT)])
def test_the_primarys_certificate_is_looked_at(stage: Stage, tmp_path: Path, tls: str, port: int) -> None:
    stage.send("sealed")
    put_off(stage, 1, tmp_path)

    def by(name: str) -> Result:
        hand_on = stage.hand_on(tmp_path, port=port, tls=tls, name=name)
        return asyncio.run(hand_on.run(NodeName("mail2"), "127.0.0.1", own=False, deadline_ms=DEADLINE_MS))

    wrong = by("another.lab.test")
    assert (wrong.code, "certificate" in wrong.reason.lower()) == ("QUEUE_LEFT", True), wrong.reason
    assert not stage.journal(tmp_path).read_text(), "nothing was offered"
    assert by("mail.lab.test").outcome is Outcome.SUCCEEDED
    stage.arrived("body sealed")


def test_a_message_for_this_host_itself_stays_its_own(stage: Stage, tmp_path: Path) -> None:
    stage.run("postconf", "-e", f"local_transport = smtp:[127.0.0.1]:{NOBODY}")
    stage.run("postfix", "reload")
    stage.send("cron", ("root@mail1.lab.test",))
    put_off(stage, 1, tmp_path)
    result = run(stage, tmp_path)
    assert (result.outcome, result.reason.split(";")[0]) == (Outcome.SUCCEEDED, "1 held, 1 own")
    assert stage.queue(tmp_path).waiting().held == 0


def performed(
    stage: Stage, memory: Path, kind: StepKind, *, port: int | None = None, cancel: bool = False
) -> StepEnded:
    """Run a step in a real executor; the answer that it delivers."""
    hand_on = stage.hand_on(memory) if port is None else stage.hand_on(memory, port=port)
    asked = Step(kind, 7, 1, 20_000, address="127.0.0.1", target=NodeName("mail2"))

    async def story() -> StepEnded:
        answer: asyncio.Future[StepEnded] = asyncio.get_running_loop().create_future()
        unused: Any = None
        executor = Executor(
            node=NodeName("mail1"),
            clock=BootClock(),
            gate=unused,
            database=unused,
            heart=unused,
            units=unused,
            store=unused,
            prove=unused,
            deliver=answer.set_result,
            broken=answer.set_exception,
            queue=(stage.queue(memory), hand_on),
        )
        executor.perform(asked, until_ms=0)
        if cancel:
            held = stage.queue(memory)
            await asyncio.to_thread(wait_for, lambda: held.waiting().held, name="the program to have begun")
            executor.cancel(asked)
        return await asyncio.wait_for(answer, 30)

    return asyncio.run(story())


def test_the_executor_runs_the_steps(stage: Stage, tmp_path: Path) -> None:
    assert performed(stage, tmp_path, StepKind.DRAIN).outcome is Outcome.SUCCEEDED
    stage.send("stepped")
    put_off(stage, 1, tmp_path)
    ended = performed(stage, tmp_path, StepKind.HAND_ON)
    assert (ended.outcome, ended.reason.partition(";")[0]) == (Outcome.SUCCEEDED, "1 held, 1 handed on")
    assert performed(stage, tmp_path, StepKind.RELEASE).reason == "0 held"
    stage.arrived("body stepped")


def test_what_is_cancelled_answers_at_once_and_its_program_is_gone(stage: Stage, tmp_path: Path) -> None:
    stage.send("interrupted")
    put_off(stage, 1, tmp_path)
    stage.start_python(
        f"import socket,time\ns = socket.create_server(('127.0.0.1', {NOBODY}))\nprint('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    began = time.monotonic()
    ended = performed(stage, tmp_path, StepKind.HAND_ON, port=NOBODY, cancel=True)
    assert (ended.outcome, ended.code, ended.code in CODES) == (Outcome.UNKNOWN, "QUEUE_CANCELLED", True)
    assert time.monotonic() - began < 10, "not the server's 20 s"
    last: list[Result] = []

    def took_it_back() -> bool:
        last[:] = [run(stage, tmp_path)]
        return last[0].outcome is Outcome.SUCCEEDED

    wait_for(took_it_back, name="the killed program's lock")
    stage.arrived("body interrupted")


def lost_answer(stage: Stage) -> None:
    """A primary that takes a message and whose answer does not come, in the stage's network."""
    script = (
        "import socket,sys\n"
        f"s = socket.create_server(('127.0.0.1', {NOBODY}))\n"
        "print('ready', flush=True)\n"
        "c, _ = s.accept(); f = c.makefile('rwb', 0)\n"
        "f.write(b'220 x\\r\\n')\n"
        "while (line := f.readline()):\n"
        "    word = line[:4].upper()\n"
        "    if word == b'DATA': break\n"
        "    f.write(b'250 ok\\r\\n')\n"
        "f.write(b'354 go\\r\\n')\n"
        "while f.readline() != b'.\\r\\n': pass\n"
    )
    stage.start_python(script)


def test_one_that_is_being_delivered_is_left_alone(stage: Stage, tmp_path: Path) -> None:
    """Postfix's delivery agents go on with what is put on hold meanwhile, here towards one that stops in the middle."""
    stage.start_python(
        f"import socket,time\ns = socket.create_server(('127.0.0.1', {NOBODY_LISTENS_AT}))\n"
        "print('ready', flush=True)\n"
        "c, _ = s.accept()\nc.send(b'220 x\\r\\n')\ntime.sleep(60)\n"
    )
    stage.send("both ways")
    queue = stage.queue(tmp_path)
    wait_for(lambda: stage.run("sh", "-c", "find /var/spool/postfix/active -type f"), name="a delivery to begin")
    result = run(stage, tmp_path)
    assert (result.code, "it is being delivered at this moment" in result.reason) == ("QUEUE_LEFT", True), result
    assert queue.waiting() == QueueFacts(0, 0, 1, 0)
    stage.end_servers()
    wait_for(lambda: run(stage, tmp_path).outcome is Outcome.SUCCEEDED, name="the agent to give up")
    stage.arrived("body both ways")


def test_one_that_may_have_been_taken_is_looked_for_before_it_is_sent_again(stage: Stage, tmp_path: Path) -> None:
    stage.send("unsure")
    put_off(stage, 1, tmp_path)
    lost_answer(stage)
    assert run(stage, tmp_path, port=NOBODY).code == "QUEUE_LEFT"

    result = run(stage, tmp_path)
    assert (result.code, "may have it in its queue" in result.reason) == ("QUEUE_LEFT", True)
    stage.arrived()

    journal = stage.journal(tmp_path)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["do"] for line in lines] == ["try"]
    journal.write_text(json.dumps({**lines[0], "at": time.time() - 700}) + "\n")
    result = run(stage, tmp_path)
    assert result.outcome is Outcome.SUCCEEDED
    assert "1 sent again unsure" in result.reason
    stage.arrived("body unsure")


def test_one_that_was_taken_and_not_deleted_is_only_deleted(stage: Stage, tmp_path: Path) -> None:
    stage.send("taken")
    put_off(stage, 1, tmp_path)
    lost_answer(stage)
    assert run(stage, tmp_path, port=NOBODY).code == "QUEUE_LEFT"
    journal = stage.journal(tmp_path)
    tried = json.loads(journal.read_text())
    journal.write_text(
        journal.read_text() + json.dumps({**tried, "do": "taken", "text": "250 ok"}) + "\n" + '{"do": "to'
    )
    assert run(stage, tmp_path).reason == "1 held, 1 handed on"
    assert stage.ids() == []
    stage.arrived()
    assert [json.loads(line)["do"] for line in journal.read_text().splitlines()] == ["try", "taken", "gone"]


def test_a_primary_takes_back_what_it_had_held_but_for_what_was_delivered(stage: Stage, tmp_path: Path) -> None:
    stage.send("mine")
    stage.send("there")
    stage.send("half", ("b@example.test", "c@example.test"))
    put_off(stage, 3, tmp_path)
    queue = stage.queue(tmp_path)
    assert asyncio.run(queue.hold(deadline_ms=DEADLINE_MS)).outcome is Outcome.SUCCEEDED
    for one in stage.ids():
        if "body mine" not in stage.run("postcat", "-bhq", one):
            stage.save(one, "b@example.test")
    result = run(stage, tmp_path, own=True)
    assert result.outcome is Outcome.SUCCEEDED, result
    assert {"3 held", "1 released", "1 there already"} <= set(result.reason.split(";")[0].split(", "))
    stage.arrived("body half", "body there")
    stage.arrived("body half", user="c@example.test")
    assert (queue.waiting().waiting, queue.waiting().held) == (1, 0)


def test_a_journal_is_put_aside_once_it_is_large_and_nothing_in_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "handed.jsonl"
    journal = Journal(path)
    journal.trying("3F2A", "aa", "mail2", ["b@x"])
    journal.taken("3F2A", "aa", "mail2", ["b@x"], "250 " + "x" * (5 << 20))
    assert Journal(path).of("3F2A", "aa").taken == {"b@x"}
    assert not Journal(path).of("3F2A", "bb").taken, "another message with the same id"
    journal.gone("3F2A", "aa")
    assert not Journal(path).of("3F2A", "aa").taken
    assert path.with_suffix(".old").exists()


def test_failoverd_close_holds_at_boot_what_postfix_would_deliver(
    stage: Stage, tmp_path: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TOOLS, "postsuper", stage.tools["postsuper"])
    text = config_file.read_text()
    config_file.write_text(text.replace("spool: /var/spool/postfix", f"spool: {stage.view}/var/spool/postfix"))
    stage.send("left")
    put_off(stage, 1, tmp_path)
    assert drop.queue_held(load(config_file, "mail1"), tmp_path)
    assert capsys.readouterr().err == "drop: the mail queue: 1 messages held\n"
    assert stage.queue(tmp_path / "queue").waiting().held == 1, "where the daemon looks"

    config_file.write_text(text.replace("spool: /var/spool/postfix", f"spool: {tmp_path}/none"))
    assert not drop.queue_held(load(config_file, "mail1"), tmp_path)
    assert "QUEUE_FAILED" in capsys.readouterr().err
    config_file.write_text(text.replace("kind: postfix", "kind: none"))
    assert drop.queue_held(load(config_file, "mail1"), tmp_path)
    assert capsys.readouterr().err == ""
