"""Copies of a record on other nodes, over real TLS: in order, after an absence, forked, refused, with a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from copies_stage import ADDRESSES, FREE_LEAST, Member, members, until
from node_certificates import Authority

from failoverd.audit import branch
from failoverd.audit.chain import Head
from failoverd.audit.reading import NAME
from failoverd.core.model import NodeName
from failoverd.runtime import copying as module
from failoverd.runtime.copying import in_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MAIL2, MAIL3, ARBITER = NodeName("mail2"), NodeName("mail3"), NodeName("arbiter")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was away is tried again sooner than a cluster needs it."""
    monkeypatch.setattr(module, "AGAIN_S", 0.05)
    monkeypatch.setattr(module, "AGAIN_MOST_S", 0.05)
    monkeypatch.setattr(module, "PACE_S", 0.0)


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))


def test_each_other_node_has_the_lines_byte_for_byte(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2", "mail3") as (mail1, mail2, mail3):
            mail1.write(3)
            await mail1.copying.start()
            for other in (mail2, mail3):
                await until(lambda other=other: other.copy("mail1") == mail1.own())
            mail1.write(2)
            await until(lambda: mail2.copy("mail1") == mail3.copy("mail1") == mail1.own())
            assert [json.loads(line)["seq"] for line in mail2.copy("mail1").splitlines()] == [1, 2, 3, 4, 5]

    run(story)


def test_nothing_is_sent_where_nothing_is_new(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write()
            await mail1.copying.start()
            await until(lambda: mail1.copying.others[MAIL2].upto == 1)
            attempts = mail1.copying.others[MAIL2].attempts
            await mail2.copying.start()  # the other way round goes on meanwhile
            mail2.write(5)
            await until(lambda: mail1.copy("mail2") == mail2.own())
            assert mail1.copying.others[MAIL2].attempts == attempts

    run(story)


def test_a_node_that_was_away_gets_all_it_has_missed(authority: Authority, tmp_path: Path) -> None:
    """More than one message, and more than is kept in memory."""

    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write()
            await mail1.copying.start()
            await until(lambda: mail2.copy("mail1") == mail1.own())
            await mail2.close()
            for _ in range(20):
                mail1.write(200, size=400)
            assert mail1.outgoing.newest(1) is None, "these are in the file only"
            await until(lambda: "ConnectionRefused" in mail1.copying.others[MAIL2].error)
            again = Member(authority, tmp_path, "mail2")
            await again.listen(mail2.port)
            await until(lambda: mail1.copying.others[MAIL2].upto == 4001)
            assert again.copy("mail1") == mail1.own()
            await again.close()

    run(story)


def test_a_sender_that_was_killed_goes_on_where_the_others_are(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write(5)
            await mail1.copying.start()
            await until(lambda: mail2.copy("mail1") == mail1.own())
            await mail1.close()
            again = Member(authority, tmp_path, "mail1")
            again.write(3, "after")
            again.wire(mail1.port)
            await again.copying.start()
            await until(lambda: mail2.copy("mail1") == again.own())
            assert len(again.own().splitlines()) == 8
            await again.close()

    run(story)


def test_a_receiver_killed_between_write_and_fsync_has_each_line_once(authority: Authority, tmp_path: Path) -> None:
    """It has not answered: the lines come again, and those that its disk has are left out."""

    async def story() -> None:
        async with members(authority, tmp_path, "mail1") as (mail1,):
            port = mail1.port
            process = await asyncio.to_thread(receiver, authority, tmp_path, port)
            mail1.write(4)
            await mail1.copying.start()
            assert await asyncio.to_thread(process.wait, 10) == -signal.SIGKILL
            assert mail1.copying.others[MAIL2].upto == 0
            written = (tmp_path / "mail2/audit/copies/mail1/1" / NAME).read_bytes()
            assert written == mail1.own(), "written, and never answered"
            again = Member(authority, tmp_path, "mail2")
            await again.listen(port)
            await until(lambda: mail1.copying.others[MAIL2].upto == 4)
            assert again.copy("mail1") == mail1.own()
            await again.close()

    run(story)


def receiver(authority: Authority, place: Path, port: int) -> subprocess.Popen[str]:
    """Start mail2 in a process of its own that is killed as it is about to fsync lines."""
    files = authority.node("mail2", ADDRESSES[MAIL2])
    script = Path(__file__).parent / "copies_process.py"
    process = subprocess.Popen(
        [sys.executable, script, place, str(port), files.ca, files.certificate, files.key],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "listening\n"
    return process


def test_what_a_power_cut_tore_off_is_sent_again(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write(5)
            await mail1.copying.start()
            await until(lambda: mail2.copy("mail1") == mail1.own())
            await mail2.close()
            path = mail2.directory / "copies/mail1/1" / NAME
            os.truncate(path, path.stat().st_size - 10)
            mail1.write()
            again = Member(authority, tmp_path, "mail2")
            await again.listen(mail2.port)
            await until(lambda: again.copy("mail1") == mail1.own())
            assert again.noted == []
            await again.close()

    run(story)


def test_a_record_that_was_put_back_is_kept_beside_the_former_one(authority: Authority, tmp_path: Path) -> None:
    """mail1's disk is as it was after record 3, and it goes on from there: what it had written is evidence."""

    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write(3)
            await mail1.copying.start()
            await until(lambda: len(mail2.copy("mail1").splitlines()) == 3)
            earlier = mail1.own()
            mail1.write(40, "lost")
            await until(lambda: mail2.copy("mail1") == mail1.own())
            former = mail1.own()
            await mail1.close()
            (mail1.directory / NAME).write_bytes(earlier)

            again = Member(authority, tmp_path, "mail1")
            again.wire(mail1.port)
            await again.copying.start()
            await until(lambda: again.copying.others[MAIL2].beyond == 43)
            (found,) = again.kept.refused()
            assert found.code == "AUDIT_BEYOND"
            assert found.reason == "mail2 has this node's record up to 43, and here it ends with 3"
            again.write(2, "other")
            await until(lambda: mail2.copy("mail1", 2).endswith(again.own().splitlines(keepends=True)[-1]))
            await until(lambda: again.copying.others[MAIL2].upto == 5)
            assert mail2.copy("mail1") == former, "nothing of it is overwritten"
            assert again.own().endswith(mail2.copy("mail1", 2))
            await until(lambda: bool(mail2.noted))
            (noted,) = mail2.noted
            text = "mail1 sends another record from 4 on than it sent before: both are kept, the former as version 1,"
            assert noted == ("audit-forked", f"{text} this one as version 2")
            assert [each.code for each in mail2.kept.refused()] == ["AUDIT_FORKED"]
            assert [each.code for each in again.kept.refused()] == ["AUDIT_FORKED"]
            again.write(2, "further")
            await until(lambda: again.own().endswith(mail2.copy("mail1", 2)) and again.copying.others[MAIL2].upto == 7)
            assert len(mail2.noted) == 1, "told once"
            await again.close()

    run(story)


def test_a_fork_from_far_back_is_found_and_begins_where_the_two_part(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write(100)
            await mail1.copying.start()
            await until(lambda: mail2.copy("mail1") == mail1.own())
            await mail1.close()
            lines = mail1.own().splitlines(keepends=True)
            (mail1.directory / NAME).write_bytes(b"".join(lines[:37]))
            again = Member(authority, tmp_path, "mail1")
            again.write(80, "rewritten")  # longer than it was, from record 38 on
            again.wire(mail1.port)
            await again.copying.start()
            await until(lambda: again.copying.others[MAIL2].upto == 117)
            assert mail2.copy("mail1", 2) == b"".join(again.own().splitlines(keepends=True)[37:])
            assert mail2.copies.versions("mail1")[0].seq == 100
            await again.close()

    run(story)


def test_of_a_record_that_begins_anew_both_are_kept(authority: Authority, tmp_path: Path) -> None:
    """Nothing is common to both: the directory was emptied, or the node was made anew under the same name."""

    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write(5)
            await mail1.copying.start()
            await until(lambda: mail2.copy("mail1") == mail1.own())
            await mail1.close()
            (mail1.directory / NAME).unlink()
            again = Member(authority, tmp_path, "mail1")
            again.write(2, "anew")
            again.wire(mail1.port)
            await again.copying.start()
            await until(lambda: mail2.copy("mail1", 2) == again.own())
            assert len(mail2.copy("mail1").splitlines()) == 5
            await again.close()

    run(story)


def test_what_its_origin_has_no_more_leaves_a_gap_that_is_a_version_of_its_own(
    authority: Authority, tmp_path: Path
) -> None:
    """A node that was away for longer than records are kept."""

    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write(3)
            await mail1.copying.start()
            await until(lambda: mail2.copy("mail1") == mail1.own())
            await mail1.close()
            again = Member(authority, tmp_path, "mail1")
            again.write(7)
            kept = again.own().splitlines(keepends=True)[5:]
            (mail1.directory / NAME).write_bytes(b"".join(kept))  # records 1 to 5 were too old
            again.audit.close()
            newest = Member(authority, tmp_path, "mail1")
            newest.wire(mail1.port)
            await newest.copying.start()
            await until(lambda: mail2.copy("mail1", 2) == b"".join(kept))
            await newest.close()

    run(story)


def test_a_node_that_never_answers_holds_up_no_other(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEADLINE_MS", 200)

    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            with socket.create_server((ADDRESSES[MAIL3], mail1.port)):  # it accepts, as its kernel does, and is silent
                await mail1.copying.start()
                for number in range(1, 6):
                    mail1.write()
                    await until(lambda number=number: len(mail2.copy("mail1").splitlines()) == number)
                await until(lambda: mail1.copying.others[MAIL3].error == "no answer within 200 ms")
                spread = await mail1.copying.spread()
            assert spread.on == ("mail1", "mail2")
            assert not spread.by_most
            why = {missing.node: missing.why for missing in spread.missing}
            assert why["mail3"] == "no answer within 200 ms"
            assert in_words(spread).startswith("its record is on mail1 and mail2 only, mail3 (no answer within 200 ms)")

    run(story)


def test_with_most_nodes_there_a_record_is_spread_and_nothing_is_to_be_said(
    authority: Authority, tmp_path: Path
) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2", "mail3") as (mail1, mail2, mail3):
            await mail1.copying.start()
            mail1.write(4)
            spread = await mail1.copying.spread()
            assert (spread.seq, set(spread.on)) == (4, {"mail1", "mail2", "mail3"})
            assert mail2.copy("mail1") == mail3.copy("mail1") == mail1.own(), "on their disks by then"
            assert await mail1.copying.in_words(NodeName("mail1")) == ""

            await mail2.copying.start()  # what mail2 has done is asked of mail2
            mail2.write(2)
            assert await mail1.copying.in_words(MAIL2) == ""
            assert mail1.copy("mail2") == mail2.own()

    run(story)


def test_what_another_node_did_and_nobody_has_is_said(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            await mail1.copying.start()
            await mail2.close()
            mail1.write()
            said = await mail1.copying.in_words(MAIL2)
            assert said.startswith("its record is on mail1 only, mail2 (")
            assert "whether other nodes have mail2's record of it is not known: " in said

    run(story)


def test_a_disk_without_room_takes_no_copy_and_says_so_until_there_is_some(
    authority: Authority, tmp_path: Path
) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail2.copies._free_least = 1 << 60
            mail1.write(2)
            await mail1.copying.start()
            await until(lambda: mail1.copying.others[MAIL2].error.startswith("507 "))
            assert "MiB are free" in mail1.copying.others[MAIL2].error
            assert mail2.copy("mail1") == b""
            assert [each.code for each in mail2.kept.refused()] == ["AUDIT_COPY_REFUSED"]
            mail2.copies._free_least = FREE_LEAST
            await until(lambda: mail1.copying.others[MAIL2].upto == 2)
            assert mail2.copy("mail1") == mail1.own()
            assert mail2.kept.refused() == ()
            assert [kind for kind, _ in mail2.noted] == ["audit-copy-refused"], "once, however often it was tried"

    run(story)


def test_lines_need_their_node_s_certificate(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2", "mail3") as (mail1, mail2, mail3):
            mail3.write(2)
            stolen = b"".join(mail3.own().splitlines(keepends=True))
            answer = await mail1.copying.links[MAIL2].request("POST", module.PATH, deadline_ms=3000, body=stolen)
            assert (answer.status, answer.body) == (403, b"line 1 is of 'mail3', sent by mail1")
            assert mail2.copy("mail3") == mail2.copy("mail1") == b""

    run(story)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\n", "no lines of an audit: no JSON"),
        (b'{"seq":1}\n', "does not say what it follows"),
        (b'{"v":2,"seq":1,"prev":"00","node":"mail1"}', "no end of line"),
        (b'{"v":2,"seq":true,"prev":"00","node":"mail1"}\n', "its number is True"),
        (b'{"v":2,"seq":9223372036854775808,"prev":"00","node":"mail1"}\n', "its number is 9223372036854775808"),
        (b'{"v":2,"seq":1,"prev":"","node":"mail1"}\n', "does not say what it follows"),
        (b'{"v":2,"seq":1,"prev":"0","node":"mail1"}\n{"v":2,"seq":3,"prev":"0","node":"mail1"}\n', "line 3 does not"),
    ],
)
def test_what_is_no_record_is_refused(authority: Authority, tmp_path: Path, body: bytes, said: str) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            answer = await mail1.copying.links[MAIL2].request("POST", module.PATH, deadline_ms=3000, body=body)
            assert answer.status == 507
            assert said in answer.body.decode()
            assert mail2.copy("mail1") == b""

    run(story)


def test_a_chain_that_goes_on_from_something_else_is_not_taken_for_the_next_lines(
    authority: Authority, tmp_path: Path
) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write(3)
            await mail1.copying.start()
            await until(lambda: mail2.copy("mail1") == mail1.own())
            forged = {"v": 2, "seq": 4, "prev": "ab" * 32, "node": "mail1"}
            body = json.dumps(forged, separators=(",", ":")).encode() + b"\n"
            answer = await mail1.copying.links[MAIL2].request("POST", module.PATH, deadline_ms=3000, body=body)
            assert answer.status == 409
            assert Head(*json.loads(answer.body)["known"][0]) == mail1.audit.head
            assert mail2.copy("mail1") == mail1.own()

    run(story)


def test_what_every_node_has_can_be_asked_for(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with members(authority, tmp_path, "mail1", "mail2") as (mail1, mail2):
            mail1.write(9)
            mail2.write(2)
            await mail1.copying.start()
            await until(lambda: mail2.copy("mail1") == mail1.own())
            heads = await mail2.kept.heads()
            assert [(e.node, e.version, e.first, e.seq) for e in heads.records] == [
                ("mail2", 0, 1, 2),
                ("mail1", 1, 1, 9),
            ]
            lines = mail1.own().splitlines(keepends=True)
            found = (await mail2.kept.hashes("mail1", 1, [2, 9, 10])).found
            assert found == {2: branch.line_of(lines[1]).hash, 9: mail1.audit.head.hash}

    run(story)
