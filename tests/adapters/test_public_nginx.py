"""nginx's mail proxy is told where the primary is: what is asked as nginx asks it, over a real socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import views
from public_stage import DEADLINE_S, HERE, Stage

from failoverd.config import load
from failoverd.core.lease import Held
from failoverd.core.model import Role
from failoverd.core.view import GateState
from failoverd.runtime.public_nginx import ports_of, server_of

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from failoverd.core.view import View

VIP = "10.89.1.100"
PROXY, MAIL1, MAIL3 = "192.0.2.50", "10.89.1.11", "10.89.1.13"
LATER = "temporary server problem, try again later"
DEAF = {"mail1": None}
SERVES = {"mail1": {"role": Role.PRIMARY}}
GIVEN_BACK = views.view("mail2", {"mail1": {"role": Role.FENCED}}, record=views.record(revoked=True))


@pytest.mark.parametrize(
    ("view", "asker", "server"),
    [
        (views.view("mail1"), PROXY, MAIL1),
        (views.view("mail2", SERVES), PROXY, MAIL1),
        (views.view("arbiter", SERVES), PROXY, MAIL1),
        (views.view("mail2", SERVES), MAIL3, VIP),  # the gate lets a member pass whether or not the lease is held
        (views.view("mail2", SERVES), "127.0.0.1", VIP),
        (views.view("mail1"), MAIL1, VIP),
        (views.view("mail2", DEAF), PROXY, VIP),  # not heard, but its lease is renewed
        (
            views.view("mail2", {"mail1": {"serving": False, "role": Role.FENCED}}),
            PROXY,
            VIP,
        ),  # its gate is not open yet
        (views.view("mail2", {"mail1": {"term": views.TERM - 1}}), PROXY, VIP),
        (views.view("mail1", gate=GateState.CLOSED), PROXY, VIP),
        (views.lost("mail2"), PROXY, None),
        (views.lost("mail2"), MAIL3, None),
        (GIVEN_BACK, PROXY, None),
        (views.view("mail2", DEAF, record=None), PROXY, None),
        (views.view("mail2", DEAF, store_heard_ms=views.NOW - 60_000), PROXY, None),  # cut off from all
        # Cut off from the store, but the primary is heard to serve.
        (views.view("mail2", SERVES, store_heard_ms=views.NOW - 60_000), PROXY, MAIL1),
    ],
)
def test_where_a_session_is_sent(view: View, asker: str, server: str | None) -> None:
    assert server_of(view, asker, VIP) == server


def told(config_file: Path, view: View, **asked: str) -> dict[str, str]:
    """What nginx is told, of the headers that it reads. It asks with HTTP/1.0, and reads no body."""
    stage = Stage(config_file, view)
    found = {}

    async def story(_: httpx.AsyncClient) -> None:
        reader, writer = await asyncio.open_connection(HERE, stage.server.ports[HERE])
        headers = "".join(f"{name.replace('_', '-').title()}: {value}\r\n" for name, value in asked.items())
        writer.write(
            f"GET /nginx-auth HTTP/1.0\r\nHost: x\r\nAuth-User: anna\r\nAuth-Pass: hunter2\r\n{headers}\r\n".encode()
        )
        async with asyncio.timeout(DEADLINE_S):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        status, *lines = head.decode().split("\r\n")
        assert status.endswith(" 200 OK")
        assert body == b""
        assert b"hunter2" not in head
        found.update((name.title(), value) for name, _, value in (line.partition(": ") for line in lines))

    stage.tell(story)
    return {name: value for name, value in found.items() if name.startswith("Auth-")}


def test_a_session_goes_to_the_port_of_its_protocol(config_file: Path) -> None:
    sent = {"Auth-Status": "OK", "Auth-Server": VIP}  # the test asks from this host
    for method in ("plain", "none"):
        assert told(config_file, views.view("mail2"), auth_protocol="imap", auth_method=method) == sent | {
            "Auth-Port": "143"
        }
    assert told(config_file, views.view("mail2"), auth_protocol="smtp") == sent | {"Auth-Port": "25"}


def test_without_a_primary_it_is_to_be_tried_again(config_file: Path) -> None:
    lost, later = views.lost("mail2"), {"Auth-Status": LATER, "Auth-Wait": "3"}
    assert told(config_file, lost, auth_protocol="imap", auth_login_attempt="1") == later
    assert told(config_file, lost, auth_protocol="smtp", auth_login_attempt="10") == later | {
        "Auth-Error-Code": "451 4.3.0"
    }


@pytest.mark.parametrize("attempt", ["11", "999999999999", "-1", "x", "٣"])
def test_not_for_ever_in_one_session(config_file: Path, attempt: str) -> None:
    """Without Auth-Wait nginx ends the session: it frees no memory of it before."""
    assert told(config_file, views.lost("mail2"), auth_protocol="imap", auth_login_attempt=attempt) == {
        "Auth-Status": LATER
    }


@pytest.mark.parametrize("protocol", ["pop3", "xmpp"])
def test_what_is_not_served_is_said(config_file: Path, protocol: str) -> None:
    said = told(config_file, views.view("mail2"), auth_protocol=protocol)
    assert said == {"Auth-Status": f"{protocol} is not served here"}


@pytest.mark.parametrize("method", ["apop", "cram-md5", "external"])
def test_a_login_that_nginx_cannot_pass_on_is_refused(config_file: Path, method: str) -> None:
    said = told(config_file, views.view("mail2"), auth_protocol="imap", auth_method=method)
    assert said == {"Auth-Status": "only PLAIN and LOGIN are possible here"}


def test_the_clock_of_the_node_that_is_asked_decides(config_file: Path) -> None:
    ended = views.view("mail1", held=Held(views.TERM, 40, views.NOW), watch=None, record=None)
    assert told(config_file, ended, auth_protocol="imap")["Auth-Status"] == LATER


def test_ports_are_those_of_the_services_or_as_configured(config_file: Path, example: str) -> None:
    """Implicit TLS is nothing that nginx speaks to a backend: then it is the protocol's own port, if that is gated."""

    def ports(text: str) -> object:
        config_file.write_text(text)
        return ports_of(load(config_file, "mail1"))

    assert ports(example) == {"imap": 143, "smtp": 25}
    assert ports(example.replace("ports: [24, 25, 143,", "ports: [24, 25,")) == {"smtp": 25}
    other = example.replace("ports: [24,", "ports: [110, 10143, 24,").replace(
        "http: {enabled: true", "http: {mail: {imap: 10143, pop3: 110}"
    )
    assert ports(other) == {"imap": 10143, "pop3": 110, "smtp": 25}
