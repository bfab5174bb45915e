"""The past of a cluster: kept by each node as it writes its audit, read again at a start, asked of peers over TLS."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from node_certificates import Authority

from failoverd.audit.file import AuditFile
from failoverd.core.model import Node, NodeKind, NodeName
from failoverd.runtime.clock import BootClock
from failoverd.runtime.history import DEADLINE_MS, Historian, Past
from failoverd.runtime.node_server import NodeServer
from failoverd.tls import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from failoverd.audit.chain import Written
    from failoverd.runtime.document_history import HistoryDocument

MAIL1, MAIL2, MAIL3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")
ADDRESSES = {MAIL1: "127.0.0.1", MAIL2: "127.0.0.2", MAIL3: "127.0.0.3"}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


class Noted:
    """One node's audit and past, whose wall clock the test sets."""

    def __init__(self, place: Path, name: NodeName) -> None:
        self.path = place / name / "audit.jsonl"
        self.past = Past(self.path.parent)
        self.name = name
        self.at_ms = 0
        self.audit = AuditFile(self.path, name, BootClock(), wall=self._wall, told=self._told)
        self.past.upto = self.audit.sequence
        self.past.load()

    def _told(self, written: list[Written]) -> None:
        self.past.noted([each.record for each in written])

    def _wall(self) -> datetime:
        return datetime.fromtimestamp(NOON + self.at_ms / 1000, UTC)

    def note(self, at_ms: int, kind: str, text: str, term: int, *, rule: str = "", **detail: str) -> None:
        """One record, so many ms after noon."""
        self.at_ms = at_ms
        self.audit.append([{"kind": kind, "term": term, "rule": rule, "text": text, "detail": detail}])

    def step(self, name: str, began_ms: int, ended_ms: int, term: int) -> None:
        """One step that succeeded."""
        number = str(began_ms)
        self.note(began_ms, "step", name, term, step=number, name=name)
        self.note(ended_ms, "step-ended", f"{name}: …", term, step=number, name=name, outcome="succeeded")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def nodes(tmp_path: Path) -> dict[NodeName, Noted]:
    """A switchover from mail1 to mail2 in term 8, as both have noted it; and a request that was refused."""
    mail1, mail2 = Noted(tmp_path, MAIL1), Noted(tmp_path, MAIL2)
    begun = {"holder": "mail2", "previous": "mail1", "reason": "take-over-given", "by": "anna", "request": "0f3c"}
    mail1.note(0, "request-refused", "promote mail3", 7, by="anna", why="BLK_LAG: mail3 is 9000 ms behind")
    mail1.note(900, "request", "mail2 shall be primary", 7, by="anna", request="0f3c")
    mail1.note(1000, "decision", "let-go: asked", 7, rule="switchover-asked", holder="mail1")
    mail1.step("close-gate", 1001, 1008, 7)
    mail1.note(1100, "term", "mail2 is primary", 8, **begun)
    mail1.note(1300, "request-result", "mail2 is primary as asked", 8, request="0f3c", outcome="done")
    mail2.note(1050, "take-over", "asking the store for term 8", 7, previous="mail1", silent_ms="400")
    mail2.note(1090, "term", "mail2 is primary", 8, **begun)
    mail2.step("open-gate", 1180, 1208, 8)
    mail2.note(1210, "request-ended", "mail2 is primary as asked", 8, request="0f3c", succeeded="true")
    return {MAIL1: mail1, MAIL2: mail2}


@asynccontextmanager
async def asked(authority: Authority, nodes: dict[NodeName, Noted]) -> AsyncIterator[Historian]:
    """mail1's historian; mail2 serves at its address, mail3 accepts and says nothing."""
    members = {name: Node(name, NodeKind.DATA, address) for name, address in ADDRESSES.items()}
    files = {name: authority.node(name, ADDRESSES[name]) for name in (MAIL1, MAIL2)}
    outgoing = client_context(ca=files[MAIL1].ca, certificate=files[MAIL1].certificate, key=files[MAIL1].key)
    incoming = server_context(ca=files[MAIL2].ca, certificate=files[MAIL2].certificate, key=files[MAIL2].key)
    other = Historian(cluster="lab", own=MAIL2, past=nodes[MAIL2].past, nodes={})
    server = NodeServer(
        address=ADDRESSES[MAIL2], port=0, ssl_context=incoming, nodes=list(members), routes=other.routes()
    )
    await server.start()
    with socket.create_server((ADDRESSES[MAIL3], server.port)):
        historian = Historian(
            cluster="lab",
            own=MAIL1,
            past=nodes[MAIL1].past,
            nodes=members,
            port=server.port,
            ssl_context=outgoing,
        )
        try:
            yield historian
        finally:
            await historian.close()
            await server.stop()


def test_what_two_nodes_noted_is_one_change_and_who_is_silent_is_named(
    authority: Authority, nodes: dict[NodeName, Noted]
) -> None:
    async def scene() -> HistoryDocument:
        async with asked(authority, nodes) as historian, asyncio.timeout(10):
            first = await historian.history()
            assert await historian.history() is first  # within a second nobody is asked again
            return first

    document = asyncio.run(scene())
    (change,) = document.changes
    assert (change.id, change.kind, change.previous, change.holder) == ("term-8", "switchover", "mail1", "mail2")
    assert (change.by, change.request, change.outcome, change.outage_ms) == ("anna", "0f3c", "done", 200)
    assert (change.began, change.ended) == ("2026-03-01T12:00:01.000Z", "2026-03-01T12:00:01.208Z")
    assert [(phase.node, phase.name, phase.began_ms, phase.ended_ms) for phase in change.phases] == [
        ("mail1", "close-gate", 1, 8),
        ("mail2", "take-term", 50, 90),
        ("mail2", "open-gate", 180, 208),
    ]
    accepted, refused = document.events
    assert (accepted.id, accepted.by, accepted.outcome, accepted.result) == (
        "0f3c",
        "anna",
        "done",
        "mail2 is primary as asked",
    )
    assert (refused.text, refused.outcome, refused.result) == (
        "promote mail3",
        "refused",
        "BLK_LAG: mail3 is 9000 ms behind",
    )
    (unseen,) = document.unseen
    assert (unseen.node, unseen.code, unseen.reason) == (
        "mail3",
        "HISTORY_UNSEEN",
        f"no answer within {DEADLINE_MS} ms",
    )


def test_a_change_whose_new_primary_is_gone_was_done_where_whoever_asked_was_told_so(
    nodes: dict[NodeName, Noted],
) -> None:
    alone = Historian(cluster="lab", own=MAIL1, past=nodes[MAIL1].past, nodes={})
    (change,) = asyncio.run(alone.history()).changes
    assert (change.holder, change.outcome, change.ended, change.outage_ms) == ("mail2", "done", None, None)


def test_a_request_whose_asked_node_is_gone_is_known_to_have_ended_from_the_primary(
    nodes: dict[NodeName, Noted],
) -> None:
    alone = Historian(cluster="lab", own=MAIL2, past=nodes[MAIL2].past, nodes={})
    (event,) = asyncio.run(alone.history()).events
    assert (event.id, event.outcome, event.result, event.text) == ("0f3c", "done", "mail2 is primary as asked", "")


def test_a_daemon_that_is_started_again_knows_what_was_noted_before(nodes: dict[NodeName, Noted]) -> None:
    for node in nodes.values():
        again = Past(node.path.parent)
        again.upto = node.audit.sequence
        again.load()
        assert again.known == node.past.known != Past().known


def test_what_is_noted_while_the_tail_is_read_is_neither_lost_nor_told_twice(nodes: dict[NodeName, Noted]) -> None:
    node = nodes[MAIL2]
    lines = [json.loads(line) for line in node.path.read_text().splitlines()]
    again = Past(node.path.parent)
    again.upto = 3
    again.noted(lines[3:])  # written since the start; the file has them too
    again.load()
    assert again.known == node.past.known


def test_lines_that_are_none_are_no_reason_not_to_know_the_others(nodes: dict[NodeName, Noted]) -> None:
    node = nodes[MAIL1]
    torn = b'{"v":1,"seq":2,"ti\n[]\n{"seq":1}\n{"time":"yesterday","node":"mail1","kind":"term","seq":1}\n\xff\n'
    node.path.write_bytes(torn + node.path.read_bytes() + b'{"v":1')
    again = Past(node.path.parent)
    again.upto = node.audit.sequence
    again.load()
    assert again.known == node.past.known


def test_an_audit_that_cannot_be_read_leaves_what_is_noted_from_now_on(tmp_path: Path) -> None:
    (tmp_path / "audit").touch()  # no directory
    past = Past(tmp_path / "audit")
    past.load()
    past.noted([{"time": "2026-03-01T12:00:00.000Z", "node": "mail1", "kind": "paused", "text": "paused by anna"}])
    assert [event.text for event in past.known.events] == ["paused by anna"]
