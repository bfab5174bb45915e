"""`failoverctl audit verify` on mail1, whose daemon asks mail2, mail3 and a store: what it says of the records."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from copies_stage import ADDRESSES, CLUSTER, NODES, Member, members, until
from node_certificates import Authority
from starlette.applications import Starlette
from views import TERM, view

from failoverd.audit.chain import digest
from failoverd.audit.layout import NAME
from failoverd.core.lease import Held
from failoverd.core.model import NodeName
from failoverd.core.view import GateState
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime.http import Server
from failoverd.runtime.witness import Witness
from failoverd.stores.memory import MemoryStore
from failoverd.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from click.testing import Result

MAIL1 = NodeName("mail1")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


class Whole:
    """mail1 with all that a daemon has for this: it holds term 5 and serves, so that its head is put into the store."""

    def __init__(self, authority: Authority, place: Path, port: int) -> None:
        self.member = Member(authority, place, "mail1")
        self.store = MemoryStore()
        self.noted: list[Any] = []
        files = authority.node("mail1", ADDRESSES[MAIL1])
        config: Any = SimpleNamespace(
            cluster=CLUSTER,
            this=NODES[MAIL1],
            nodes=NODES,
            peer=SimpleNamespace(port=port),
            audit=SimpleNamespace(directory=self.member.directory, retention_days=731),
        )
        held = view("mail1", held=Held(TERM, 40, 102_000), gate=GateState.OPEN)
        daemon: Any = SimpleNamespace(
            state=SimpleNamespace(view=held), outbox=None, note=self.noted.append, broken=self.noted.append
        )
        context = client_context(ca=files.ca, certificate=files.certificate, key=files.key)
        self.witness = Witness(config, daemon, self.store, self.member.outgoing, context)
        self.socket = place / "control.sock"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it with its control socket; every other node that answers has its record, and the store its head."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.socket))
        server = Server(Starlette(routes=self.witness.control_routes()), listener)
        await server.start()
        await self.witness.start()
        try:
            yield
        finally:
            await self.witness.stop()
            await server.stop()
            self.socket.unlink()
            self.member.audit.close()

    async def verify(self, *more: str) -> Result:
        """Run the command as an operator does."""
        arguments = ["audit", "verify", "--audit", str(self.member.directory), "--socket", str(self.socket), *more]
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, prog_name="failoverctl")


def nothing_before(*_: object) -> None:
    """Of most stories nothing is older than their daemon."""


def tell(
    authority: Authority,
    place: Path,
    story: Callable[[Whole, Member, Member], Awaitable[None]],
    before: Callable[[Whole, Member, Member], None] = nothing_before,
) -> None:
    """Run mail1 with its witnesses mail2 and mail3, the arbiter away, until they have all; then tell the story."""

    async def telling() -> None:
        async with members(authority, place, "mail2", "mail3") as (mail2, mail3):
            whole = Whole(authority, place, mail2.port)
            whole.member.write(40)
            before(whole, mail2, mail3)
            async with whole.running():
                for each in (mail2, mail3):
                    await until(lambda each=each: each.copy("mail1") == whole.member.own())
                while not await whole.store.anchors():  # noqa: ASYNC110 - nothing tells of an anchor
                    await asyncio.sleep(0.01)
                await story(whole, mail2, mail3)

    asyncio.run(asyncio.wait_for(telling(), 40))


def lines_of(whole: Whole) -> list[bytes]:
    return whole.member.own().splitlines(keepends=True)


def put(whole: Whole, lines: list[bytes]) -> None:
    (whole.member.directory / NAME).write_bytes(b"".join(lines))


def rewritten(lines: list[bytes], record: int) -> list[bytes]:
    """Change one record and chain all after it anew, as somebody does who knows how."""
    found = lines[: record - 1]
    for line in lines[record - 1 :]:
        changed = json.loads(line)
        changed["prev"] = digest(found[-1])
        if changed["seq"] == record:
            changed["text"] = "nothing happened"
        found.append(json.dumps(changed, separators=(",", ":")).encode() + b"\n")
    return found


def test_a_record_that_is_as_others_know_it(authority: Authority, tmp_path: Path) -> None:
    async def story(whole: Whole, *_: Member) -> None:
        result = await whole.verify()
        assert result.exit_code == Exit.DONE, result.output
        assert "note    the same on mail2 up to 40, mail3 up to 40" in result.stdout
        assert f"note    1 anchors in the store agree, of terms {TERM} to {TERM}" in result.stdout
        assert "note    not looked at: arbiter: ConnectionRefusedError" in result.stdout
        document = json.loads((await whole.verify("-o", "json")).stdout)
        assert document["whole"] is True
        assert {"what": "the same on mail2 up to 40, mail3 up to 40", "broken": False} in document["others"]

    tell(authority, tmp_path, story)


def test_an_end_that_was_cut_off_is_found_by_the_copies_and_by_the_store(authority: Authority, tmp_path: Path) -> None:
    async def story(whole: Whole, *_: Member) -> None:
        put(whole, lines_of(whole)[:-3])
        result = await whole.verify()
        assert result.exit_code == Exit.FAILED
        for who in ("mail2", "mail3"):
            assert (
                f"BROKEN  {who} has it up to record 40, and here it ends with 37: its end was cut off" in result.stdout
            )
        assert f"BROKEN  the anchor of term {TERM} (begin, put by mail1) knows it up to record 40" in result.stdout

    tell(authority, tmp_path, story)


def test_a_record_made_anew_from_some_number_on_is_whole_in_itself_and_found_all_the_same(
    authority: Authority, tmp_path: Path
) -> None:
    async def story(whole: Whole, *_: Member) -> None:
        put(whole, rewritten(lines_of(whole), 23))
        result = await whole.verify()
        assert result.exit_code == Exit.FAILED
        for who in ("mail2", "mail3"):
            assert f"BROKEN  {who} has another record 23 than this node: they differ from there on" in result.stdout
        assert "(begin, put by mail1) has another record 40 than this node" in result.stdout

    tell(authority, tmp_path, story)


def kept_here(whole: Whole, origin: Member) -> Path:
    """Let mail1 have all of another node's record."""
    path = whole.member.directory / "copies" / origin.name / "1" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(origin.own())
    return path


def test_another_node_s_record_that_was_cut_and_a_copy_that_was_changed(authority: Authority, tmp_path: Path) -> None:
    def before(whole: Whole, mail2: Member, mail3: Member) -> None:
        for each in (mail2, mail3):
            each.write(12)
        kept_here(whole, mail2)
        changed = kept_here(whole, mail3)
        changed.write_bytes(changed.read_bytes().replace(b"step 4", b"step 5"))
        (mail2.directory / NAME).write_bytes(b"".join(mail2.own().splitlines(keepends=True)[:-1]))

    async def story(whole: Whole, *_: Member) -> None:
        result = await whole.verify()
        assert result.exit_code == Exit.FAILED
        assert "BROKEN  mail2 does not have its record 12, up to which the copy on mail1 goes" in result.stdout
        assert "record 6 does not go on from 5: one was changed" in result.stdout
        assert "the copies here are what their nodes have: mail3 up to 12" in result.stdout, "of its end, that is so"

    tell(authority, tmp_path, story, before)


def test_without_a_daemon_there_is_this_node_s_record_and_what_it_has_of_the_others(
    authority: Authority, tmp_path: Path
) -> None:
    """Also of a record that was cut: nothing here says so, and that nobody was asked is told."""

    async def story(whole: Whole, mail2: Member, *_: Member) -> None:
        put(whole, lines_of(whole)[:-3])
        mail2.write(3)
        path = kept_here(whole, mail2).parent
        whole.socket = tmp_path / "nobody.sock"
        whole.socket.touch()
        result = await whole.verify()
        assert result.exit_code == Exit.DONE, result.output
        assert "note    not looked at: the other nodes: " in result.stdout
        assert f"note    the copy of mail2's record in {path} is whole, up to 3" in result.stdout

    tell(authority, tmp_path, story)
