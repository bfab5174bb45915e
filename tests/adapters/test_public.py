"""The public listener: who may ask, that nothing can be changed, its documents, and what becomes of a port taken."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
import views
from node_certificates import Authority
from public_stage import DEADLINE_S, HERE, Stage, until
from test_node_controller import HELD, Node

from failoverd.config import load
from failoverd.runtime import document, public
from failoverd.runtime.clock import BootClock
from failoverd.runtime.document import from_json
from failoverd.runtime.document_history import Change, HistoryDocument
from failoverd.runtime.public import PublicServer, admitted
from failoverd.runtime.public_shown import Shown
from failoverd.tls import common_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from failoverd.core.view import View


def test_no_route_takes_what_could_change_anything(config_file: Path) -> None:
    routes = Stage(config_file, views.view("mail2")).server.routes
    assert routes
    for route in routes:
        methods = getattr(route, "methods", None)
        assert methods, route
        assert methods <= {"GET", "HEAD", "OPTIONS"}, route


def test_other_methods_and_paths_are_refused(config_file: Path) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await client.request(method, "/v1/status")).status_code == httpx.codes.METHOD_NOT_ALLOWED
        for path in ("/v1/promote", "/v1/pause", "/v1/requests/x/events", "/v1/rejoin"):
            assert (await client.post(path, json={"by": "anna"})).status_code == httpx.codes.NOT_FOUND

    Stage(config_file, views.view("mail2")).tell(story)


def test_the_documents_are_those_of_the_control_socket(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))

    async def story(client: httpx.AsyncClient) -> None:
        status = await client.get("/v1/status")
        assert document.from_json(document.StatusDocument, status.content) == stage.controller.status()
        assert status.headers["content-type"] == "application/json"
        assert status.headers["cache-control"] == "no-store"
        check = await client.get("/v1/check")
        assert document.from_json(document.CheckDocument, check.content) == stage.controller.check()
        history = await client.get("/v1/history")
        assert from_json(HistoryDocument, history.content) == await stage.controller.history()
        assert (await client.get("/v1/version")).json() == {"api": "v1", "node": "mail2", "software": "0.1.0"}
        head = await client.head("/v1/status")
        assert (head.status_code, head.content) == (httpx.codes.OK, b"")

    stage.tell(story)


def test_who_has_a_document_is_not_given_it_again(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))

    async def story(client: httpx.AsyncClient) -> None:
        first = await client.get("/v1/check")
        again = {"if-none-match": first.headers["etag"]}
        known = await client.get("/v1/check", headers=again)
        assert (known.status_code, known.content) == (httpx.codes.NOT_MODIFIED, b"")
        stage.daemon.store_error = "refused"
        stage.clock.at_ms += 100
        changed = await client.get("/v1/check", headers=again)
        assert changed.json()["unseen"][0]["code"] == "BLK_STORE"

    stage.tell(story)


def test_a_storm_of_questions_makes_ten_documents_a_second(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))
    made, status = [], stage.controller.status

    def counted() -> document.StatusDocument:
        made.append(stage.clock.at_ms)
        return status()

    stage.controller.status = counted  # type: ignore[method-assign]  # what it costs is what is counted

    async def story(client: httpx.AsyncClient) -> None:
        for at_ms in (0, 0, 40, 99, 100, 150, 250):
            stage.clock.at_ms = views.NOW + at_ms
            await asyncio.gather(*(client.get("/v1/status") for _ in range(20)))

    stage.tell(story)
    assert made == [views.NOW, views.NOW + 100, views.NOW + 250]


# ---- who may ask ---------------------------------------------------------------------------------------------------


def test_by_default_the_network_of_the_vip_and_this_host_may_look(config_file: Path) -> None:
    assert [str(network) for network in admitted(load(config_file, "mail1"))] == ["10.89.1.0/24", "127.0.0.0/8"]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/status HTTP/1.1\r\nhost: mail2\r\n\r\n",
        b"\x16\x03\x01\x00",
        b"POST / HTTP/1.1\r\ncontent-length: 9999\r\n\r\n",
    ],
)
def test_who_is_beyond_allow_is_told_403_and_nothing_else(config_file: Path, sent: bytes) -> None:
    config_file.write_text(config_file.read_text().replace("http: {enabled: true", "http: {allow: [127.0.0.2]", 1))
    stage = Stage(config_file, views.view("mail2"))

    async def asked(source: str) -> bytes:
        reader, writer = await asyncio.open_connection(HERE, stage.server.ports[HERE], local_addr=(source, 0))
        async with asyncio.timeout(DEADLINE_S):
            writer.write(sent)
            said = await reader.read() if source == HERE else await reader.readuntil(b"\r\n")
        writer.close()
        await writer.wait_closed()
        return said

    async def story(_: httpx.AsyncClient) -> None:
        assert await asked(HERE) == b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        if sent.startswith(b"GET"):
            assert await asked("127.0.0.2") == b"HTTP/1.1 200 OK\r\n"

    stage.tell(story)


@pytest.mark.parametrize(
    ("host", "version", "status"),
    [
        ("mail2", "1.1", b"200"),
        ("127.0.0.1:7480", "1.1", b"200"),
        ("status.example.org", "1.1", b"200"),  # http.names
        ("evil.example", "1.1", b"421"),
        ("mail2.evil.example:7480", "1.1", b"421"),
        ("mail2\r\nhost: evil.example", "1.1", b"421"),
        ("upstream", "1.0", b"200"),  # no browser's
    ],
)
def test_it_answers_to_its_own_names_only(config_file: Path, host: str, version: str, status: bytes) -> None:
    text = config_file.read_text().replace("names: []", "names: [status.example.org]", 1)
    config_file.write_text(text)
    stage = Stage(config_file, views.view("mail2"))

    async def story(_: httpx.AsyncClient) -> None:
        reader, writer = await asyncio.open_connection(HERE, stage.server.ports[HERE])
        writer.write(f"GET /v1/version HTTP/{version}\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read()
        writer.transport.abort()
        assert answer.split()[1] == status
        assert (b"HTTP_HOST" in answer) == (status == b"421")

    stage.tell(story)


def test_a_request_that_is_too_large_or_never_ends_is_dropped(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))

    async def said(sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HERE, stage.server.ports[HERE])
        writer.write(sent)
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read()
        writer.close()
        return answer

    async def story(_: httpx.AsyncClient) -> None:
        large = b"GET /v1/status HTTP/1.1\r\nx: " + b"y" * 20_000
        assert (await said(large)).startswith(b"HTTP/1.1 413 ")
        assert await said(b"GET /v1/status HTTP/1.1\r\n") == b""

    stage.tell(story)


def test_one_client_does_not_take_the_place_of_all_others(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failoverd.runtime.public._OF_ONE", 3)
    stage = Stage(config_file, views.view("mail2"))

    async def story(client: httpx.AsyncClient) -> None:
        port = stage.server.ports[HERE]
        opened = [await asyncio.open_connection(HERE, port, local_addr=("127.0.0.3", 0)) for _ in range(5)]
        async with asyncio.timeout(DEADLINE_S):
            # A request is answered on three of them; the others were ended before, whichever the loop took first.
            said = []
            for reader, writer in opened:
                writer.write(b"GET /v1/version HTTP/1.0\r\n\r\n")
                try:
                    said.append((await reader.read())[:12])
                except ConnectionResetError:
                    said.append(b"")
                writer.close()
        assert sorted(said) == [b"", b"", *[b"HTTP/1.1 200"] * 3]
        assert (await client.get("/v1/version")).status_code == httpx.codes.OK

    stage.tell(story)


def test_a_storm_is_answered_in_turns_between_which_the_loop_does_what_is_due(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))
    shown, looks, passes = stage.shown.view, [], [0]

    def counted() -> View:
        looks.append(passes[0])
        return shown()

    stage.shown.view = counted  # type: ignore[method-assign]  # when it is asked is what is counted

    async def beating() -> None:
        while True:
            passes[0] += 1
            await asyncio.sleep(0)

    async def story(_: httpx.AsyncClient) -> None:
        port = stage.server.ports[HERE]
        opened = [await asyncio.open_connection(HERE, port) for _ in range(40)]
        beat = asyncio.ensure_future(beating())
        for _, writer in opened:  # all of them before the loop's next pass
            writer.write(b"GET /healthy HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            answers = [await reader.read() for reader, _ in opened]
        beat.cancel()
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert max(looks.count(at) for at in looks) <= public._AT_ONCE
        for _, writer in opened:
            writer.close()

    stage.tell(story)


# ---- listening -----------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_a_finding_and_is_tried_again(config_file: Path, tmp_path: Path) -> None:
    """A whole daemon: it starts, says what is wrong, and listens when the port is free."""

    async def story() -> None:
        node = Node(load(config_file, "arbiter"), tmp_path, HELD)
        config = load(config_file, "arbiter")
        node.controller._refused = lambda: server.refused()  # noqa: PLW0108 - it is made below
        with socket.create_server((HERE, 0)) as other:
            port = other.getsockname()[1]
            shown = Shown(config, BootClock(), node.daemon, node.controller)
            server = PublicServer(shown, addresses=(HERE,), port=port, retry_s=0.05)
            async with node.running():
                await server.start()
                (finding,) = (f for f in node.controller.check().findings if f.node == "arbiter")
                assert (finding.code, finding.blocks) == ("HTTP_PORT_TAKEN", False)
                assert finding.reason == f"another program listens on 127.0.0.1 port {port}"
                other.close()
                async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient() as client:
                    await until(lambda: not server.refused())
                    answer = await client.get(f"http://{HERE}:{port}/v1/status")
                    assert answer.json()["refused"] == []
                await server.stop()

    asyncio.run(story())


def test_a_certificate_that_cannot_be_read_is_a_finding_until_it_can(config_file: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "public.crt", tmp_path / "public.key"
    for file in (certificate, key):
        file.write_text("not yet\n")
        file.chmod(0o600)
    tls = f"http: {{certificate: {certificate}, key: {key}"
    config_file.write_text(config_file.read_text().replace("http: {enabled: true", tls, 1))
    stage = Stage(config_file, views.view("mail2"))
    stage.server._retry_s = 0.05

    async def story() -> None:
        await stage.server.start()
        (why,) = stage.server.refused()
        assert why.code == "HTTP_CERTIFICATE"
        assert why.reason.startswith(f"{certificate}: ")
        good = Authority(tmp_path).node("mail2", HERE)
        certificate.write_bytes(good.certificate.read_bytes())
        key.write_bytes(good.key.read_bytes())
        context = ssl.create_default_context(cadata=good.ca.read_text())
        async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient(verify=context) as client:
            await until(lambda: not stage.server.refused())
            answer = await client.get(f"https://{HERE}:{stage.server.ports[HERE]}/v1/version")
            assert answer.json()["node"] == "mail2"
        await stage.server.stop()

    asyncio.run(story())


def test_a_renewed_certificate_is_used_and_a_bad_one_leaves_the_old(config_file: Path, tmp_path: Path) -> None:
    authority, certificate, key = Authority(tmp_path), tmp_path / "public.crt", tmp_path / "public.key"

    def put(name: str) -> None:
        made = authority.node(name, HERE)
        for file, content in ((certificate, made.certificate.read_bytes()), (key, made.key.read_bytes())):
            file.write_bytes(content)
            file.chmod(0o600)

    put("first")
    tls = f"http: {{certificate: {certificate}, key: {key}"
    config_file.write_text(config_file.read_text().replace("http: {enabled: true", tls, 1))
    stage = Stage(config_file, views.view("mail2"))
    stage.server._renew_s = 0.01
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    trusting.check_hostname = False

    async def shown(name: str | None) -> str | None:
        """The name in the certificate that a client is shown, who asks for `name` or for none."""
        port = stage.server.ports[HERE]
        reader, writer = await asyncio.open_connection(HERE, port, ssl=trusting, server_hostname=name or "")
        found = common_name(writer.get_extra_info("peercert"))
        writer.write(b"GET /v1/version HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        return found

    async def story() -> None:
        await stage.server.start()
        async with asyncio.timeout(DEADLINE_S):
            assert await shown("mail.lab.test") == "first"
            put("second")
            while await shown(None) != "second":
                pass
            certificate.write_text("cut off in the middle\n")
            await until(stage.server.refused)
            (why,) = stage.server.refused()
            assert (why.code, why.reason.endswith("the old one is still in use")) == ("HTTP_CERTIFICATE", True)
            assert await shown("mail.lab.test") == "second"
            put("third")
            await until(lambda: not stage.server.refused())
            assert await shown("mail.lab.test") == "third"
        await stage.server.stop()

    asyncio.run(story())


# ---- events --------------------------------------------------------------------------------------------------------


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """(event, data) as a browser would have them."""
    kind, data = "", ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not line and kind:
            yield kind, data
            kind, data = "", ""


async def of_kind(kind: str, response: httpx.Response) -> AsyncIterator[str]:
    """The data of one kind of event."""
    async for found, data in events(response):
        if found == kind:
            yield data


def test_events_come_at_once_and_at_each_change(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))

    async def story(client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(DEADLINE_S), client.stream("GET", "/v1/events") as response:
            assert response.headers["content-type"] == "text/event-stream"
            told = of_kind("status", response)
            data = await anext(told)
            assert document.from_json(document.StatusDocument, data.encode()) == stage.controller.status()
            stage.clock.at_ms += 250
            stage.knows(highest_term=6)
            while json.loads(data)["term"] != 6:
                data = await anext(told)

    stage.tell(story)


def test_events_move_on_each_second_without_a_change(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))

    async def story(client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(DEADLINE_S), client.stream("GET", "/v1/events") as response:
            told = of_kind("status", response)
            first = await anext(told)
            stage.clock.at_ms += 500
            data = first
            while json.loads(data)["lease"]["left_ms"] != json.loads(first)["lease"]["left_ms"] - 500:
                data = await anext(told)

    stage.tell(story)


def test_another_past_is_told_once(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failoverd.runtime.public_events.HISTORY_S", 0.01)
    stage = Stage(config_file, views.view("mail2"))
    change = Change(
        id="term-6", term=6, kind="failover", previous="mail1", holder="mail2", by="failoverd", reason="", rule="",
        began="2026-11-28T03:00:00.000Z", ended=None, outcome="under-way", outage_ms=None,
    )  # fmt: skip
    past = HistoryDocument(cluster="lab", node="mail2", changes=())
    looks = []

    async def history() -> HistoryDocument:
        looks.append(past)
        return past

    stage.controller.history = history  # type: ignore[method-assign]  # what the nodes would tell

    async def story(client: httpx.AsyncClient) -> None:
        nonlocal past
        async with asyncio.timeout(DEADLINE_S), client.stream("GET", "/v1/events") as response:
            told = of_kind("history", response)
            assert from_json(HistoryDocument, (await anext(told)).encode()) == past
            await until(lambda: len(looks) > 10)  # the same each time: nothing is told
            past = replace(past, changes=(change,))
            assert from_json(HistoryDocument, (await anext(told)).encode()) == past
            async with client.stream("GET", "/v1/events") as late:
                assert from_json(HistoryDocument, (await anext(of_kind("history", late))).encode()) == past

    stage.tell(story)


def test_a_bug_in_what_is_told_ends_the_streams_and_not_the_listener(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))
    status = stage.controller.status

    async def story(client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(DEADLINE_S), client.stream("GET", "/v1/events") as response:
            told = events(response)
            await anext(told)
            stage.controller.status = None  # type: ignore[assignment,method-assign]  # a bug
            stage.clock.at_ms += 250
            assert [kind async for kind, _ in told] in ([], ["history"])
        stage.controller.status = status  # type: ignore[method-assign]
        async with asyncio.timeout(DEADLINE_S), client.stream("GET", "/v1/events") as response:
            assert await anext(of_kind("status", response))

    stage.tell(story)


def test_all_listeners_share_one_document_and_nobody_listening_costs_none(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))
    made, status = [], stage.controller.status

    def counted() -> document.StatusDocument:
        made.append(1)
        return status()

    stage.controller.status = counted  # type: ignore[method-assign]  # what it costs is what is counted

    async def story(client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(DEADLINE_S):
            async with client.stream("GET", "/v1/events") as one, client.stream("GET", "/v1/events") as two:
                first, second = of_kind("status", one), of_kind("status", two)
                await anext(first)
                await anext(second)
                assert len(made) == 1, "both came within a tenth of a second"
                stage.clock.at_ms += 1000
                stage.knows(highest_term=6)
                assert await anext(first) == await anext(second)
                assert len(made) == 2
            await until(lambda: len(stage.daemon.watchers) == 1)  # who counts changes of primary, and nobody else
            assert not stage.server._events._clients

    stage.tell(story)


def test_one_listener_too_many_is_told_so(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failoverd.runtime.public_events.CLIENTS", 1)

    async def story(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/v1/events") as response:
            await anext(events(response))
            refused = await client.get("/v1/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (httpx.codes.SERVICE_UNAVAILABLE, "5")

    Stage(config_file, views.view("mail2")).tell(story)


def test_streams_end_when_the_daemon_does(config_file: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))

    async def story(client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(DEADLINE_S), client.stream("GET", "/v1/events") as response:
            told = events(response)
            await anext(told)
            ending = asyncio.ensure_future(stage.server.stop())
            assert {kind async for kind, _ in told} <= {"status", "history"}, "whole events, and a clean end"
            await ending

    stage.tell(story)


def test_who_does_not_read_is_dropped_and_costs_one_event(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failoverd.runtime.public.SLOW_S", 0.3)
    monkeypatch.setattr("failoverd.runtime.public_events.LEAST_S", 0.0)
    stage = Stage(config_file, views.view("mail2"))

    async def story(client: httpx.AsyncClient) -> None:
        with socket.socket() as sleeper:
            sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sleeper.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sleeper, (HERE, stage.server.ports[HERE]))
            await loop.sock_sendall(sleeper, b"GET /v1/events HTTP/1.1\r\nhost: mail2\r\n\r\n")
            async with asyncio.timeout(60):
                await until(lambda: stage.server._events._clients)
                (slow,) = stage.server._events._clients
                term = views.TERM
                while slow in stage.server._events._clients:
                    term += 1
                    stage.clock.at_ms += 100
                    stage.knows(highest_term=term)
                    assert slow.pending.keys() <= {"status", "history"}
                    await asyncio.sleep(0)
            assert (await client.get("/v1/version")).status_code == httpx.codes.OK

    stage.tell(story)
