"""The generator's process as the coordinator has it: real children that work, die, tear off, flood, or never end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, cast

import psutil
import pytest
from drill_stage import ASKED
from hostile import Elsewhere
from load_hostile import (
    BROKEN,
    DRILL,
    ENDLESS,
    HANGING,
    HostileImap,
    HostileSmtp,
    says,
)
from load_stage import Running
from node_certificates import Authority

from failoverd.drill import DrillError, model
from failoverd.drill.book import Book
from failoverd.drill.collecting import Collector
from failoverd.drill.comparing import ledger
from failoverd.drill.generator import PROGRAM, Generator
from failoverd.drill.model import LoadNow, LoadPlan, Second
from failoverd.drill_files import LOAD

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from load_hostile import Deed, Hostile

WAIT_S = 30.0


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    servers = Elsewhere()
    yield servers
    servers.settle()
    servers.close()


def plan(directory: Path, /, imap: int = 1, smtp: int = 1, **other: Any) -> LoadPlan:
    """A few busy people, and servers of these ports."""
    (directory / "accounts").write_text("".join(f"drill{number}@example.test:secret\n" for number in range(1, 6)))
    ca = Authority(directory).node("mail.test").ca
    return LoadPlan(
        **{
            "drill": DRILL,
            "address": "127.0.0.1",
            "server_name": "mail.test",
            "ca": str(ca),
            "imap_port": imap,
            "imap_tls": "none",
            "smtp_port": smtp,
            "smtp_tls": "none",
            "accounts_file": str(directory / "accounts"),
            "directory": str(directory),
            "users": 6,
            "ramp_s": 1,
            "appends": 120.0,
            "fetches": 120.0,
            "submits": 120.0,
            **other,
        }
    )


class Stage:
    """A drill's book, and a generator that writes into it."""

    def __init__(self, directory: Path, program: Sequence[str] = PROGRAM, **other: Any) -> None:
        self.book = Book.opened(directory, ASKED, "lab", lambda _: None)
        nobody = cast("Any", None)  # it asks no node and no daemon for anything
        self.found = Collector(nobody, self.book, nobody, nobody)
        timing = {name: other.pop(name) for name in ("silent_s", "end_s") if name in other}
        told = plan(directory, directory=str(self.book.place), **other)
        self.generator = Generator(told, self.book, self.found, program=program, **timing)

    def seconds(self) -> list[Second]:
        """All that it has on disk."""
        path = self.book.place / LOAD
        return [model.load(Second, line) for line in path.read_bytes().splitlines()] if path.exists() else []


def python(text: str) -> Sequence[str]:
    """A child that reads its plan, and does this."""
    return (
        sys.executable,
        "-c",
        f"import json, os, sys, time\nplan = json.loads(sys.stdin.readline())['plan']\n{text}",
    )


def process_of(generator: Generator) -> psutil.Process:
    """The child that has just been started by this test."""
    process = generator._process
    assert process is not None
    return psutil.Process(process.pid)


async def fails(stage: Stage, within_s: float = WAIT_S) -> str:
    """Start it, see what is said of it while it runs, and that nothing is left of it afterwards."""
    await stage.generator.start()
    process = process_of(stage.generator)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    with pytest.raises(DrillError) as raised:
        async with asyncio.timeout(within_s):
            await stage.generator.runs()
    assert raised.value.code == "DRILL_LOAD_FAILED"
    ticking.cancel()
    with contextlib.suppress(DrillError):  # it has said why already
        await stage.generator.stop()
    assert not process.is_running()
    return str(raised.value.reason)


def test_one_that_works_is_heard_and_gives_its_last_word(elsewhere: Elsewhere, tmp_path: Path) -> None:
    imap, smtp = HostileImap(), HostileSmtp()

    async def all_(stage: Stage) -> model.LoadDone:
        await stage.generator.start()
        await stage.generator.until_users(WAIT_S)
        assert stage.generator.sessions == 6
        await stage.generator.stage("fault")
        await stage.generator.limit(4)
        running = asyncio.ensure_future(stage.generator.runs())
        async with asyncio.timeout(WAIT_S):
            while stage.generator.sessions != 4 or not any(one.stage == "fault" for one in stage.seconds()):  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)
        assert not running.done()
        running.cancel()
        done = await stage.generator.stop()
        assert done is not None
        return done

    with elsewhere.serving(imap) as imap_port, elsewhere.serving(smtp) as smtp_port:
        stage = Stage(tmp_path, imap=imap_port, smtp=smtp_port)
        done = asyncio.run(all_(stage))
    lines = ledger(stage.book.place)
    assert {one.message_id for one in lines} <= set(imap.acknowledged + smtp.acknowledged)
    assert len(lines) == done.appended + done.submitted > 0
    assert done.most_sessions == 6
    at = [second.at_ms for second in stage.seconds()]
    assert at == list(range(at[0], at[-1] + 1, 1000))


def test_one_that_is_killed_leaves_what_it_has_said_and_what_it_was_promised(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    imap, smtp = HostileImap(), HostileSmtp()

    async def all_(stage: Stage) -> str:
        await stage.generator.start()
        running = asyncio.ensure_future(stage.generator.runs())
        async with asyncio.timeout(WAIT_S):
            while not (stage.seconds() and ledger(stage.book.place)):  # noqa: ASYNC110 - files
                await asyncio.sleep(0.05)
        process_of(stage.generator).kill()
        with pytest.raises(DrillError) as raised:
            await asyncio.wait_for(running, WAIT_S)
        assert await stage.generator.stop() is None
        return str(raised.value.reason)

    with elsewhere.serving(imap) as imap_port, elsewhere.serving(smtp) as smtp_port:
        stage = Stage(tmp_path, imap=imap_port, smtp=smtp_port, beats_per_s=0)
        words = asyncio.run(all_(stage))
    assert f"by itself, with {-signal.SIGKILL}" in words
    told = {one.message_id for one in ledger(stage.book.place)}
    taken = set(imap.acknowledged + smtp.acknowledged)
    assert told <= taken
    assert len(taken - told) <= 12  # one of each person and protocol was under way


def test_one_whose_coordinator_dies_ends_by_itself(tmp_path: Path) -> None:
    load = Running(plan(tmp_path))
    assert load.process.stdin is not None
    load.until(lambda: load.now, name="its first word")
    load.process.stdin.close()
    assert load.process.wait(WAIT_S) == 0
    load.kill()
    assert load.done is not None


NOW = f'{{"now":{model.dump(LoadNow(sessions=1, users=6, overdue=0)).decode()}}}'
BAD: dict[str, tuple[str, str]] = {
    "it ends at once": ("", "has ended by itself, with 0"),
    "it fails": ("sys.exit(1)", "has ended by itself, with 1"),
    "a torn line": (f"sys.stdout.write({NOW[:20]!r})", "has ended by itself, with 0"),
    "no JSON": (
        "print('Traceback (most recent call last):', flush=True)\ntime.sleep(60)",
        "says what is not understood",
    ),
    "half a line and another": (
        f"print({NOW[:20] + NOW!r}, flush=True)\ntime.sleep(60)",
        "says what is not understood",
    ),
    "another shape": ('print(\'{"second": {"at_ms": "x"}}\', flush=True)\ntime.sleep(60)', "not understood"),
    "a number": ("print(5, flush=True)\ntime.sleep(60)", "not understood: neither now, second nor done"),
    "a string": ("print('\"now\"', flush=True)\ntime.sleep(60)", "not understood: neither now, second nor done"),
    "another word": (
        "print('{\"then\": 1}', flush=True)\ntime.sleep(60)",
        "not understood: neither now, second nor done",
    ),
    "NULs": ("os.write(1, bytes(1000) + b'\\n')\ntime.sleep(60)", "not understood"),
    "no text": ("os.write(1, b'\\xff\\xfe\\n')\ntime.sleep(60)", "not understood"),
    "too deep": ("print('[' * 100000, flush=True)\ntime.sleep(60)", "not understood"),
    "a line without an end": ("while True: os.write(1, b'{' * 65536)", "not understood"),
    "NULs without an end": ("while True: os.write(1, bytes(65536))", "not understood"),
    "nothing any more": ("os.close(1)\ntime.sleep(60)", "has closed its output, and goes on"),
    "silence": ("time.sleep(60)", "is silent for 1 s"),
    "silence after a word": (f"print({NOW!r}, flush=True)\ntime.sleep(60)", "is silent for 1 s"),
}


@pytest.mark.parametrize("what", BAD)
def test_one_that_goes_wrong_is_told_of_and_nothing_of_it_is_left(what: str, tmp_path: Path) -> None:
    text, words = BAD[what]
    silent_s = 1.0 if what.startswith(("silence", "nothing")) else WAIT_S
    stage = Stage(tmp_path, python(text), silent_s=silent_s, end_s=1.0)
    assert words in asyncio.run(fails(stage))


def test_one_that_cannot_be_started(tmp_path: Path) -> None:
    stage = Stage(tmp_path, (str(tmp_path / "none"),))
    with pytest.raises(DrillError, match="does not start: No such file"):
        asyncio.run(stage.generator.start())


def test_one_that_floods_keeps_nobody_from_their_work_and_is_ended(tmp_path: Path) -> None:
    """It speaks as fast as it can, ignores what it is told, and does not end when it is asked to."""
    flood = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nline = {NOW + chr(10)!r}.encode() * 1000\n"
    stage = Stage(tmp_path, python(f"{flood}while True: os.write(1, line)"), end_s=1.0)

    async def all_() -> float:
        loop = asyncio.get_running_loop()
        await stage.generator.start()
        process = process_of(stage.generator)
        running = asyncio.ensure_future(stage.generator.runs())
        async with asyncio.timeout(WAIT_S):
            while stage.generator.sessions == 0:  # noqa: ASYNC110 - it is a number
                await asyncio.sleep(0)
        turns = 0
        until_s = loop.time() + 1.0
        while loop.time() < until_s:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 100  # others have theirs
        assert not running.done()
        running.cancel()
        with pytest.raises(DrillError, match="did not end within 1 s"):
            await stage.generator.stop()
        assert not process.is_running()
        return turns

    asyncio.run(all_())


def test_a_last_word_that_is_torn_is_none(tmp_path: Path) -> None:
    stage = Stage(tmp_path, python('sys.stdin.readline()\nsys.stdout.write(\'{"done":{"logins":\')'))

    async def all_() -> model.LoadDone | None:
        await stage.generator.start()
        return await stage.generator.stop()

    assert asyncio.run(all_()) is None


def test_what_cannot_be_kept_is_told_of(tmp_path: Path) -> None:
    second = json.loads(model.dump(Second(at_ms=0, stage="baseline", sessions=0, users=0)))
    stage = Stage(
        tmp_path, python(f"print(json.dumps({{'second': {second!r}}}), flush=True)\ntime.sleep(60)"), end_s=1.0
    )
    (stage.book.place / LOAD).mkdir()  # where the file is meant to be
    assert "cannot be kept" in asyncio.run(fails(stage))


# ---- the program itself, and servers that go wrong in all ways at once -----------------------------------------------

MISCHIEF: tuple[Deed, ...] = (
    *HANGING.values(),
    *BROKEN.values(),
    *ENDLESS.values(),
    says(b"* BYE\r\n", closes=True),
    says(b"{tag} NO [UNAVAILABLE] later\r\n"),
    says(b"421 later\r\n", closes=True),
    says(b"550 no\r\n"),
    says(b"d1 OK whose?\r\n"),
)
STEPS = (
    "greeting",
    "LOGIN",
    "SELECT",
    "FETCH",
    "APPEND",
    "message",
    "IDLE",
    "DONE",
    "EHLO",
    "AUTH",
    "MAIL",
    "RCPT",
    "DATA",
)


def mischievous(server: Hostile) -> Callable[[StreamReader, StreamWriter], Awaitable[None]]:
    """Each second connection goes wrong, each in another way."""
    number = 0

    async def script(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal number
        number += 1
        one = type(server)({}, server.acknowledged)
        if number % 2:
            one.deeds = {STEPS[number // 2 % len(STEPS)]: MISCHIEF[number // 2 % len(MISCHIEF)]}
        await one(reader, writer)  # type: ignore[operator] # both are servers

    return script


def test_servers_that_go_wrong_in_all_ways_at_once_neither_end_it_nor_make_it_grow(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    imap, smtp = HostileImap(), HostileSmtp()
    with elsewhere.serving(mischievous(imap)) as imap_port, elsewhere.serving(mischievous(smtp)) as smtp_port:
        load = Running(plan(tmp_path, imap_port, smtp_port, users=20, beats_per_s=5, deadline_s=2.0))
        try:
            load.until(lambda: load.ok("imap") > 20 and load.ok("smtp") > 20, seconds=60, name="something to go well")
            kinds = ("failed", "refused", "rejected", "unknown")
            load.until(
                lambda: all(any(getattr(second.smtp, kind) for second in load.seconds) for kind in kinds),
                seconds=60,
                name="each kind",
            )
            done = load.stop()
        finally:
            load.kill()
    lines = [one.message_id for one in load.ledger()]
    assert len(set(lines)) == len(lines) == done.appended + done.submitted
    assert set(lines) <= set(imap.acknowledged + smtp.acknowledged)  # no one's word but theirs
    assert load.ok("smtp") == done.submitted
    assert sum(second.smtp.unknown for second in load.seconds) == done.submits_unknown
    assert sum(second.imap.unknown for second in load.seconds) == done.appends_unknown
    at = [second.at_ms for second in load.seconds]
    assert at == list(range(at[0], at[-1] + 1, 1000))  # each second once
    assert done.rss_max_bytes < 128 << 20
