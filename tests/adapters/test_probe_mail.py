"""The IMAP and SMTP probes against servers that misbehave: each fault by its name, in time, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import threading
from typing import TYPE_CHECKING

import hostile
import psutil
import pytest
from hostile import CLOSE, HANG, Elsewhere, Imap, Smtp
from node_certificates import Authority

from failoverd.core.model import Health, NodeName, Observation
from failoverd.ports import Probe, Target
from failoverd.probes import CODES
from failoverd.probes.deadline import GRACE_MS, observe
from failoverd.probes.imap import ImapProbe
from failoverd.probes.smtp import SmtpProbe
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

PASSWORD = 'a "quoted" \\ canary'
TARGET = Target(NodeName("mail1"), "127.0.0.1")
DEADLINE_MS = 1200  # a machine of two processors that runs three such processes stands still for 400 ms now and then


class World:
    """Certificates, servers, and probes that trust one CA."""

    def __init__(self, directory: Path) -> None:
        self.elsewhere = Elsewhere()
        ours, theirs = Authority(directory), Authority(directory, "their-ca")
        self.ca = str(ours.node("mail.test").ca)
        self.good = hostile.server_context(ours.node("mail.test"))
        self.expired = hostile.server_context(ours.node("old.test", days=-1))
        self.other = hostile.server_context(ours.node("other.test"))
        self.untrusted = hostile.server_context(theirs.node("mail.test"))

    def imap(self, port: int, tls: str, server_name: str = "mail.test") -> ImapProbe:
        """Make an IMAP probe."""
        return ImapProbe(
            port=port, tls=tls, ca=self.ca, server_name=server_name, user="canary@lab.test", password=PASSWORD
        )

    def smtp(self, port: int, tls: str, server_name: str = "mail.test") -> SmtpProbe:
        """Make an SMTP probe."""
        return SmtpProbe(
            port=port, tls=tls, ca=self.ca, server_name=server_name, recipient="canary@lab.test", ehlo_name="mail2.test"
        )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = World(tmp_path_factory.mktemp("certificates"))
    yield found
    found.elsewhere.close()


Where = "Callable[[World], AbstractContextManager[int]]"


def at(script: object, tls: str = "") -> Where:
    """Serve `script`, with the named certificate if any."""
    return lambda world: world.elsewhere.serving(script, getattr(world, tls) if tls else None)


def starttls(kind: type, tls: str = "good", **answers: str) -> Where:
    """Serve a server that offers STARTTLS."""
    return lambda world: world.elsewhere.serving(kind(answers, tls=getattr(world, tls)))


def port(manager: Callable[[], AbstractContextManager[int]]) -> Where:
    """Serve nothing."""
    return lambda _: manager()


# name: (server, how the probe is configured, server name, code, words of the reason)
IMAP: dict[str, tuple[Where, str, str, str, str]] = {
    "well": (at(Imap(), "good"), "implicit", "mail.test", "", ""),
    "well with starttls": (starttls(Imap), "starttls", "mail.test", "", ""),
    "well without tls": (at(Imap()), "none", "mail.test", "", ""),
    "logout hangs": (at(Imap({"LOGOUT": HANG}), "good"), "implicit", "mail.test", "", ""),
    "logout closes": (at(Imap({"LOGOUT": CLOSE}), "good"), "implicit", "mail.test", "", ""),
    "refused": (port(hostile.nobody), "implicit", "mail.test", "IMAP_REFUSED", "refused a connection"),
    "dropped": (port(hostile.full_backlog), "none", "mail.test", "IMAP_TIMEOUT_CONNECT", "did not accept"),
    "hung": (at(hostile.silent), "none", "mail.test", "IMAP_NO_GREETING", "accepted the connection, sent no greeting"),
    "hung, tls": (at(hostile.silent), "implicit", "mail.test", "IMAP_NO_GREETING", "did not answer the TLS"),
    "hung behind tls": (at(hostile.silent, "good"), "implicit", "mail.test", "IMAP_NO_GREETING", "sent no greeting"),
    "dribbling": (at(hostile.dribbling), "none", "mail.test", "IMAP_NO_GREETING", "did not end it"),
    "endless line": (at(hostile.endless), "none", "mail.test", "IMAP_GARBAGE", "more than 64 KiB"),
    "endless lines": (at(hostile.chattering), "none", "mail.test", "IMAP_GARBAGE", "sent"),
    "closes": (at(hostile.closing), "none", "mail.test", "IMAP_CLOSED", "before its greeting"),
    "closes, tls": (at(hostile.closing, "good"), "implicit", "mail.test", "IMAP_CLOSED", "before its greeting"),
    "closes in handshake": (
        at(Imap({"greeting": CLOSE})), "implicit", "mail.test", "IMAP_CLOSED", "during the TLS handshake"),
    "bye": (at(Imap({"greeting": "* BYE too busy"})), "none", "mail.test", "IMAP_NOT_READY", "too busy"),
    "other protocol": (at(Smtp(), "good"), "implicit", "mail.test", "IMAP_GARBAGE", "220 mail.test"),
    "tls on plain": (at(Imap(), "good"), "none", "mail.test", "IMAP_TLS_ON_PLAIN", "speaks TLS"),
    "tls on starttls": (at(Imap(), "good"), "starttls", "mail.test", "IMAP_TLS_ON_PLAIN", "speaks TLS"),
    "plain on tls": (at(Imap()), "implicit", "mail.test", "IMAP_PLAIN_ON_TLS", "where TLS is configured"),
    "expired": (at(Imap(), "expired"), "implicit", "old.test", "IMAP_CERT_EXPIRED", "expired"),
    "other name": (at(Imap(), "other"), "implicit", "mail.test", "IMAP_CERT_NAME", "mail.test"),
    "other ca": (at(Imap(), "untrusted"), "implicit", "mail.test", "IMAP_CERT_UNTRUSTED", "not trusted"),
    "expired, starttls": (starttls(Imap, "expired"), "starttls", "old.test", "IMAP_CERT_EXPIRED", "expired"),
    "no starttls": (starttls(Imap, STARTTLS="BAD no"), "starttls", "mail.test", "IMAP_NO_STARTTLS", "no"),
    "starttls hangs": (starttls(Imap, STARTTLS=HANG), "starttls", "mail.test", "IMAP_TIMEOUT_TLS", "STARTTLS"),
    "hung in handshake": (at(Imap()), "starttls", "mail.test", "IMAP_TIMEOUT_TLS", "did not finish the handshake"),
    "login refused": (
        at(Imap({"LOGIN": "NO [UNAVAILABLE] later"}), "good"), "implicit", "mail.test", "IMAP_LOGIN_REFUSED", "later"),
    "login echoed": (
        at(Imap({"LOGIN": f"BAD you said {PASSWORD}"})), "none", "mail.test", "IMAP_LOGIN_REFUSED", "you said ***"),
    "login hangs": (at(Imap({"LOGIN": HANG}), "good"), "implicit", "mail.test", "IMAP_TIMEOUT_LOGIN", "answer LOGIN"),
    "login closes": (at(Imap({"LOGIN": CLOSE}), "good"), "implicit", "mail.test", "IMAP_CLOSED", "after LOGIN"),
    "select refused": (
        at(Imap({"SELECT": "NO Internal error occurred"}), "good"), "implicit", "mail.test",
        "IMAP_SELECT_FAILED", "Internal error"),
    "select hangs": (
        at(Imap({"SELECT": HANG}), "good"), "implicit", "mail.test", "IMAP_TIMEOUT_SELECT", "answer SELECT INBOX"),
    "select closes": (at(Imap({"SELECT": CLOSE}), "good"), "implicit", "mail.test", "IMAP_CLOSED", "after SELECT"),
    "wrong tag": (at(Imap({"LOGIN": "huh\r\nAAAA9 OK what"})), "none", "mail.test", "IMAP_GARBAGE", "no answer"),
}  # fmt: skip

SMTP: dict[str, tuple[Where, str, str, str, str]] = {
    "well": (starttls(Smtp), "starttls", "mail.test", "", ""),
    "well with tls": (at(Smtp(), "good"), "implicit", "mail.test", "", ""),
    "well without tls": (at(Smtp()), "none", "mail.test", "", ""),
    "quit hangs": (at(Smtp({"QUIT": HANG})), "none", "mail.test", "", ""),
    "rset closes": (at(Smtp({"RSET": CLOSE})), "none", "mail.test", "", ""),
    "refused": (port(hostile.nobody), "starttls", "mail.test", "SMTP_REFUSED", "refused a connection"),
    "dropped": (port(hostile.full_backlog), "starttls", "mail.test", "SMTP_TIMEOUT_CONNECT", "did not accept"),
    "hung": (at(hostile.silent), "starttls", "mail.test", "SMTP_NO_GREETING", "sent no greeting"),
    "dribbling": (at(hostile.dribbling), "starttls", "mail.test", "SMTP_NO_GREETING", "did not end it"),
    "endless line": (at(hostile.endless), "starttls", "mail.test", "SMTP_GARBAGE", ""),
    "closes": (at(hostile.closing), "starttls", "mail.test", "SMTP_CLOSED", "before its greeting"),
    "other protocol": (at(Imap()), "starttls", "mail.test", "SMTP_GARBAGE", "OK ready"),
    "421": (at(Smtp({"greeting": "421 shutting down"})), "starttls", "mail.test", "SMTP_NOT_READY", "421"),
    "554": (at(Smtp({"greeting": "554 no"})), "starttls", "mail.test", "SMTP_NOT_READY", "554"),
    "tls on plain": (at(Smtp(), "good"), "starttls", "mail.test", "SMTP_TLS_ON_PLAIN", "speaks TLS"),
    "plain on tls": (at(Smtp()), "implicit", "mail.test", "SMTP_PLAIN_ON_TLS", "where TLS is configured"),
    "expired": (starttls(Smtp, "expired"), "starttls", "old.test", "SMTP_CERT_EXPIRED", "expired"),
    "other name": (starttls(Smtp, "other"), "starttls", "mail.test", "SMTP_CERT_NAME", "mail.test"),
    "other ca": (starttls(Smtp, "untrusted"), "starttls", "mail.test", "SMTP_CERT_UNTRUSTED", "not trusted"),
    "no starttls": (starttls(Smtp, STARTTLS="502 no"), "starttls", "mail.test", "SMTP_NO_STARTTLS", "502"),
    "starttls hangs": (starttls(Smtp, STARTTLS=HANG), "starttls", "mail.test", "SMTP_TIMEOUT_TLS", "STARTTLS"),
    "starttls closes": (starttls(Smtp, STARTTLS=CLOSE), "starttls", "mail.test", "SMTP_CLOSED", "after STARTTLS"),
    "ehlo refused": (at(Smtp({"EHLO": "502 no"})), "none", "mail.test", "SMTP_EHLO_REFUSED", "502"),
    "ehlo hangs": (at(Smtp({"EHLO": HANG})), "none", "mail.test", "SMTP_TIMEOUT_EHLO", "answer EHLO"),
    "mail refused": (at(Smtp({"MAIL": "550 no"})), "none", "mail.test", "SMTP_MAIL_REFUSED", "550"),
    "mail hangs": (at(Smtp({"MAIL": HANG})), "none", "mail.test", "SMTP_TIMEOUT_MAIL", "answer MAIL"),
    "rcpt refused": (at(Smtp({"RCPT": "550 unknown"})), "none", "mail.test", "SMTP_RCPT_REFUSED", "550"),
    "rcpt deferred": (
        at(Smtp({"RCPT": "451 4.3.0 Temporary lookup failure"})), "none", "mail.test",
        "SMTP_RCPT_DEFERRED", "lookup failure"),
    "rcpt hangs": (starttls(Smtp, RCPT=HANG), "starttls", "mail.test", "SMTP_TIMEOUT_RCPT", "answer RCPT"),
    "rcpt closes": (starttls(Smtp, RCPT=CLOSE), "starttls", "mail.test", "SMTP_CLOSED", "after RCPT"),
}  # fmt: skip

CASES = [("imap", name) for name in IMAP] + [("smtp", name) for name in SMTP]


def facts_of_process() -> tuple[int, int, int]:
    """Return what a probe could leave behind: file descriptors, connections of ours, threads."""
    process = psutil.Process()
    return process.num_fds(), len(process.net_connections(kind="inet")), threading.active_count()


async def look(
    world: World, service: str, name: str, deadline_ms: int = DEADLINE_MS, patience_ms: int = 0
) -> Observation:
    server, tls, server_name, *_ = (IMAP if service == "imap" else SMTP)[name]
    with server(world) as number:
        make: Callable[[int, str, str], Probe] = world.imap if service == "imap" else world.smtp
        probe = make(number, tls, server_name)
        return await observe(service, probe, TARGET, deadline_ms, BootClock(), patience_ms=patience_ms)


@pytest.mark.parametrize(("service", "name"), CASES)
def test_each_fault_has_its_name(world: World, service: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    *_, code, words = (IMAP if service == "imap" else SMTP)[name]
    caplog.set_level(logging.DEBUG)
    before = facts_of_process()

    async def scene() -> Observation:
        observation = await look(world, service, name)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return observation

    observation = asyncio.run(scene())
    world.elsewhere.settle()
    reading = observation.reading
    assert (reading.code, reading.health) == (code, Health.FAILED if code else Health.OK), reading.reason
    assert words in reading.reason
    assert code == "" or code in CODES
    assert observation.took_ms <= DEADLINE_MS + GRACE_MS
    assert facts_of_process() == before
    for secret in (PASSWORD, PASSWORD.replace("\\", "\\\\").replace('"', '\\"')):
        assert secret not in repr(observation) + caplog.text


@pytest.mark.parametrize(
    ("service", "name", "dead"),
    [
        ("imap", "hung", True),
        ("imap", "login hangs", False),
        ("imap", "select hangs", False),
        ("smtp", "hung", True),
        ("smtp", "rcpt hangs", False),
    ],
)
def test_one_that_has_greeted_is_slow_and_not_down(world: World, service: str, name: str, *, dead: bool) -> None:
    reading = asyncio.run(look(world, service, name, 200, 700)).reading
    world.elsewhere.settle()
    assert reading.health is Health.FAILED
    assert reading.reason.endswith("within 200 ms" if dead else "within 700 ms")


def test_a_thousand_leave_nothing_behind(world: World) -> None:
    before = facts_of_process()
    servers = {case: (IMAP if case[0] == "imap" else SMTP)[case[1]] for case in CASES}
    counted: dict[str, int] = {}

    async def scene() -> None:
        with contextlib.ExitStack() as stack:
            probes: list[tuple[str, Probe]] = []
            for (service, _), (server, tls, server_name, *_) in servers.items():
                make: Callable[[int, str, str], Probe] = world.imap if service == "imap" else world.smtp
                probes.append((service, make(stack.enter_context(server(world)), tls, server_name)))

            async def some(share: int) -> None:
                for number in range(share, 1000, 20):
                    service, probe = probes[number % len(probes)]
                    observation = await observe(service, probe, TARGET, 200, BootClock())
                    code = observation.reading.code
                    assert code in {"", *CODES}
                    counted[code] = counted.get(code, 0) + 1

            await asyncio.gather(*(some(share) for share in range(20)))
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scene())
    world.elsewhere.settle()
    assert sum(counted.values()) == 1000
    assert "PROBE_BUG" not in counted
    assert len(counted) > 30
    assert facts_of_process() == before


def test_a_node_without_free_descriptors_says_that_it_could_not_look(world: World) -> None:
    async def scene() -> Observation:
        probe = world.imap(1, "none")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            return await observe("imap", probe, TARGET, DEADLINE_MS, BootClock())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    reading = asyncio.run(scene()).reading
    assert (reading.health, reading.code) == (Health.UNKNOWN, "PROBE_EXHAUSTED")


def test_a_node_without_a_way_says_that_it_could_not_look(world: World) -> None:
    broadcast = Target(NodeName("mail1"), "255.255.255.255")  # the kernel lets no TCP go there
    reading = asyncio.run(observe("smtp", world.smtp(25, "none"), broadcast, DEADLINE_MS, BootClock())).reading
    assert (reading.health, reading.code) == (Health.UNKNOWN, "PROBE_NO_ROUTE")


def test_the_dialogues_are_what_they_should_be(world: World) -> None:
    imap, smtp = Imap(tls=world.good), Smtp(tls=world.good)

    async def scene() -> None:
        for script, make in ((imap, world.imap), (smtp, world.smtp)):
            with world.elsewhere.serving(script) as number:
                observation = await observe("it", make(number, "starttls"), TARGET, DEADLINE_MS, BootClock())
                assert observation.reading.health is Health.OK

    asyncio.run(scene())
    assert [line.split(" ", 1)[1] for line in imap.heard] == [
        "STARTTLS", r'LOGIN "canary@lab.test" "a \"quoted\" \\ canary"', 'SELECT "INBOX"', "LOGOUT"
    ]  # fmt: skip
    assert smtp.heard == [
        "EHLO mail2.test", "STARTTLS", "EHLO mail2.test", "MAIL FROM:<>", "RCPT TO:<canary@lab.test>", "RSET", "QUIT"
    ]  # fmt: skip


def test_a_password_that_would_end_the_line_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="line ends"):
        ImapProbe(port=1, tls="none", ca=None, server_name="", user="a", password="b\r\nc")
