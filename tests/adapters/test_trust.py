"""Whoever is no member, or says that it is another one, gets nothing from any port of a node: counted and recorded."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from node_certificates import Authority, Files
from trust_stage import ARBITER, MAIL3, PORTS, TrustStage, until

from failoverd.core.model import Record
from failoverd.https import Link, LinkError
from failoverd.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _with(files: Files, *, ca: Path | None = None) -> ssl.SSLContext:
    """A client that would take any server, so that it is the server who refuses."""
    context = client_context(ca=ca or files.ca, certificate=files.certificate, key=files.key)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _none(stage: TrustStage) -> ssl.SSLContext:
    del stage
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _of_tls_1_2(stage: TrustStage) -> ssl.SSLContext:
    context = _with(stage.files(MAIL3))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def _place(stage: TrustStage) -> Path:
    place = stage.place / "bad"
    place.mkdir(exist_ok=True)
    return place


def _signed(stage: TrustStage) -> Authority:
    """The cluster's own CA, with other files."""
    return stage.cluster.authority


@dataclass(frozen=True)
class Bad:
    """What is shown, and what it is called. `ask`: what is asked with it, where that is the matter."""

    made: Callable[[TrustStage], ssl.SSLContext]
    code: str


BAD = {
    "none": Bad(_none, "PEER_NO_CERTIFICATE"),
    "another cluster's": Bad(lambda s: _with(Authority(_place(s), "other").node(MAIL3)), "PEER_UNTRUSTED"),
    "signed by a replica": Bad(
        lambda s: _with(Authority.of_a_node(s.files(MAIL3), _place(s)).node(ARBITER)), "PEER_UNTRUSTED"
    ),
    "expired": Bad(lambda s: _with(_signed(s).node("old", days=-1)), "PEER_EXPIRED"),
    "not yet valid": Bad(lambda s: _with(_signed(s).node("new", since_days=-1)), "PEER_NOT_YET"),
    "for servers only": Bad(lambda s: _with(_signed(s).node("srv", usages=(Authority.SERVERS,))), "PEER_PURPOSE"),
    "of no member": Bad(lambda s: _with(_signed(s).node("mail9")), "PEER_STRANGER"),
    "of two names": Bad(lambda s: _with(_signed(s).node("two", also=(ARBITER,))), "PEER_STRANGER"),
    "of TLS 1.2": Bad(_of_tls_1_2, "PEER_HANDSHAKE"),
}


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("certificate", BAD)
def test_a_bad_certificate_is_refused_counted_and_recorded(
    config_file: Path, tmp_path: Path, port: str, certificate: str
) -> None:
    bad, stage = BAD[certificate], TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        before = stage.node.daemon.state.view
        answer = await stage.asked(port, bad.made(stage))
        if port == "rebuild":
            assert b"binlog_state" not in answer
            assert not answer or b"REBUILD_STRANGER" in answer
        else:
            assert not answer or answer.startswith(b"HTTP/1.1 403 ")
        text = await stage.told(bad.code, port)
        assert f"port {port}: " in text
        assert stage.refusals.counts[port, bad.code] == 1
        after = stage.node.daemon.state.view
        assert (after.highest_term, after.reports) == (before.highest_term, before.reports)

    stage.run(tell)


def test_a_replicas_certificate_does_not_speak_for_the_arbiter(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        answer = await stage.asked("peer", stage.client(MAIL3))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert stage.node.daemon.state.view.reports == ()
        said = await stage.told("PEER_IMPOSTOR", "peer")
        assert said.endswith("a report of arbiter with the certificate of mail3")
        assert said.startswith("mail3 (")
        (found,) = stage.trust.refused()
        assert (found.code, found.reason) == ("PEER_IMPOSTOR", said)

    stage.run(tell)


@pytest.mark.parametrize(
    "kind", ["another cluster's", "expired", "not yet valid", "for clients only", "another node's"]
)
def test_a_server_that_is_not_who_was_dialled_is_told_nothing(config_file: Path, tmp_path: Path, kind: str) -> None:
    """mail1 dials what stands at mail3's address."""
    stage = TrustStage(config_file, tmp_path)
    there = stage.local(MAIL3)[0]
    files, code = {
        "another cluster's": lambda: (Authority(_place(stage), "other").node(MAIL3, there), "PEER_UNTRUSTED"),
        "expired": lambda: (_signed(stage).node("mail3", there, days=-1), "PEER_EXPIRED"),
        "not yet valid": lambda: (_signed(stage).node("mail3", there, since_days=-1), "PEER_NOT_YET"),
        "for clients only": lambda: (_signed(stage).node("mail3", there, usages=(Authority.CLIENTS,)), "PEER_PURPOSE"),
        "another node's": lambda: (_signed(stage).node("mail2", there), "PEER_IMPOSTOR"),
    }[kind]()

    async def tell(stage: TrustStage) -> None:
        heard: list[bytes] = []

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(1))
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        server = await asyncio.start_server(hear, there, 0, ssl=context)
        link = Link(there, server.sockets[0].getsockname()[1], stage.trust.outgoing)
        with pytest.raises(LinkError, match="certificate verify failed"):
            await link.request("GET", "/", deadline_ms=5000)
        server.close()
        assert heard == []
        said = await stage.told(code, "outgoing")
        assert said.startswith(f"mail3 ({there}), dialled: its certificate: ")
        assert [found.code for found in stage.trust.refused()] == [code]

    stage.run(tell)


def test_a_member_is_served_on_every_port_and_its_certificate_is_known(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        store = stage.store(MAIL3)
        assert (await store.read()).version == 0
        await store.close()
        assert (await stage.asked("drill", stage.client(MAIL3))).startswith(b"HTTP/1.1 ")
        assert b"code" in await stage.asked("rebuild", stage.client(MAIL3))  # there is no server here: it says so
        link = Link(stage.address, stage.ports["peer"], stage.trust.outgoing)
        assert (await link.request("GET", "/none", deadline_ms=5000)).status == 404
        link.close()
        assert stage.refusals.counts == {}
        assert {life.of for life in stage.trust.lives()} == {"certificate", "ca"}

    stage.run(tell)


def test_many_refusals_are_one_record_a_minute_and_many_addresses_are_told_together(
    config_file: Path, tmp_path: Path
) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        net = stage.address.rpartition(".")[0]
        for number in range(100, 130):
            await stage.asked("peer", _none(stage), whence=f"{net}.{number}")
        for _ in range(5):
            await stage.asked("peer", _none(stage), whence=stage.local(MAIL3)[0])
        await until(lambda: stage.refusals.counts.get(("peer", "PEER_NO_CERTIFICATE")) == 35)
        await stage.told("PEER_NO_CERTIFICATE", "peer")
        await stage.trust.look(files=False)
        await until(lambda: len(stage.records()) >= 18)
        found = {line["detail"]["source"]: line["detail"]["count"] for line in stage.records()}
        assert len(found) == len(stage.records()) == 18  # sixteen, the rest of them, and a member
        assert found["others"] == "14"
        assert found[stage.local(MAIL3)[0]] == "5"

    stage.run(tell)


def test_a_stranger_changes_nothing_in_the_store(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        files = _signed(stage).node("mail9")
        link = Link(stage.address, stage.ports["peer"], _with(files))
        body = b'{"v":1,"record":{"version":0,"term":9,"holder":"mail9"}}'
        answer = await link.request("PUT", "/store/v1/lab", deadline_ms=5000, body=body, headers='if-match: "0"\r\n')
        assert answer.status == 403
        link.close()
        store = stage.store(MAIL3)
        assert await store.read() == Record()
        await store.close()

    stage.run(tell)
