"""What mail servers answer, to the probes and to the drill's simulated people, and what their logs and programs say."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

from places import AnswerIsNone, parts, run, text, written
from target import Target
from targets_messages import Transport

from failoverd.actions.handing import StayError, envelope, marks
from failoverd.actions.queue import PostfixQueue
from failoverd.actions.queue_journal import Journal
from failoverd.core.model import NodeName
from failoverd.drill import DrillError, counters, limits, mailboxes, model
from failoverd.drill.load.answers import AnswerError
from failoverd.drill.load.imap import Imap
from failoverd.drill.load.service import Account
from failoverd.drill.load.smtp import Smtp
from failoverd.drill.load.wire import Wire
from failoverd.ports import Target as Host
from failoverd.probes import maillog
from failoverd.probes.deadline import observe
from failoverd.probes.imap import ImapProbe
from failoverd.probes.journal import Journal as Journalctl
from failoverd.probes.sessions import imap_sessions
from failoverd.probes.smtp import SmtpProbe
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failoverd.ports import Probe

DEADLINE_MS = 300  # a probe that waits for what never comes waits so long
ACCOUNT = Account(name="drill1@example.test", password="geheim-fuzz")
IMAP = (
    b"* OK [CAPABILITY IMAP4rev1] ready",
    b"d1 OK Logged in",
    b"* 3 EXISTS\r\n* 0 RECENT\r\nd2 OK [READ-WRITE] done",
    b"* 3 FETCH (UID 7 FLAGS () RFC822.SIZE 5 BODY[]<0> {5}\r\nhello)\r\nd3 OK done",
    b"+ go on\r\nd4 NO [TRYCREATE] no such mailbox",
    b"d5 OK created",
    b"+ go on\r\nd6 OK [APPENDUID 1 2] stored",
    b"+ idling\r\n* 4 EXISTS\r\n* 1 EXPUNGE\r\nd7 OK idle is over",
    b"* BYE\r\nd8 OK bye",
)
SMTP = (
    b"220 mail.test ESMTP",
    b"250-mail.test\r\n250-STARTTLS\r\n250 8BITMIME",
    b"235 2.7.0 fine",
    b"250 ok",
    b"250 ok",
    b"354 go on",
    b"250 2.0.0 Ok: queued as 4F1B2",
    b"221 bye",
)


# ---- the drill's people ---------------------------------------------------------------------------------------------


class _Fed(Wire):
    """A connection on which nothing more comes than has come."""

    async def _more(self) -> None:
        raise AnswerError("failed", "closed by the server")


async def _heard(data: bytes, talk: Callable[[Wire], Awaitable[object]]) -> object:
    """One conversation with a server that says `data` and closes."""
    wire = _Fed()
    wire.connection_made(Transport())
    step = 1 + len(data) % 900
    for start in range(0, len(data), step):
        wire.data_received(data[start : start + step])
    return await talk(wire)


async def _imap_session(wire: Wire) -> object:
    imap = Imap(wire)
    await imap._greeting()
    await imap.log_in(ACCOUNT)
    await imap.select()
    await imap.fetch(0.5)
    await imap.append(b"Subject: x\r\n\r\nhello\r\n")
    await imap.idle()
    await imap.end_idle()
    await imap.log_out()
    imap.hear()
    return imap.messages


async def _smtp_session(wire: Wire) -> object:
    smtp = Smtp(wire)
    await smtp._reply(2)
    await smtp.command(b"EHLO x")
    await smtp.log_in(ACCOUNT)
    await smtp.submit("a@b.test", "c@b.test", b"Subject: x\r\n\r\nhello\r\n")
    await smtp.quit()
    return smtp.in_doubt


# ---- the probes -----------------------------------------------------------------------------------------------------


def _probed(made: Callable[[int], Probe], data: bytes) -> object:
    """A real connection on loopback: each line that the probe sends is answered by the next piece of `data`."""

    async def looked() -> object:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tag = b""
            for piece in data.split(b"\n--\n"):
                writer.write(piece.replace(b"TAG", tag) + b"\r\n")
                line = await reader.readline()
                if not line:
                    break
                tag = line.split(b" ")[0]
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            seen = await observe("fuzz", made(port), Host(NodeName("mail1"), "127.0.0.1"), DEADLINE_MS, BootClock())
        finally:
            server.close()
        if seen.reading.code == "PROBE_BUG" or ACCOUNT.password in seen.reading.reason:
            raise AnswerIsNone(f"{seen.reading}")
        return seen.reading

    return run(looked())


def _imap_probe(port: int) -> ImapProbe:
    return ImapProbe(
        port=port, tls="none", ca=None, server_name="x", user=ACCOUNT.name, password=ACCOUNT.password, mailbox="INBOX"
    )


def _smtp_probe(port: int) -> SmtpProbe:
    return SmtpProbe(port=port, tls="none", ca=None, server_name="x", recipient="canary@x.test", ehlo_name="x")


# ---- logs -----------------------------------------------------------------------------------------------------------


def _lines(data: bytes) -> object:
    """`PROGRAM: message`, as the journal has it."""
    found = []
    for line in text(data).splitlines():
        program, _, message = line.partition(": ")
        said = maillog.dovecot(message), maillog.postfix(program, message)
        found += [maillog.source_of(one.address) for one in said if isinstance(one, maillog.Login)]
    return found, counters.count("mail1", text(data).splitlines(), {"drill1@example.test"}, "x.drill.invalid")


LINES = (
    (
        b"dovecot: imap-login: Login: user=<drill1@example.test>, method=PLAIN, rip=192.0.2.9, lip=10.0.0.1, mpid=7, "
        b"TLS, session=<a+/=>"
    ),
    (
        b"dovecot: imap-login: Disconnected: Connection closed (auth failed, 2 attempts in 6 secs): user=<x>, "
        b"method=PLAIN, rip=2001:db8::7, lip=::1, TLS handshaking: SSL_accept() failed, session=<ab>"
    ),
    b"postfix/submission/smtpd: warning: unknown[::ffff:192.0.2.9]: SASL PLAIN authentication failed: UGFzc3dvcmQ6",
    b"postfix/smtpd: 3F1A2B: client=h.example.test[192.0.2.9], sasl_method=PLAIN, sasl_username=a@b.test",
    (
        b"postfix/lmtp: 3F1A2B: to=<a@b.test>, orig_to=<c@b.test>, relay=mail[private/dovecot-lmtp], conn_use=2, "
        b"delay=0.1, delays=0.05/0/0/0.05, dsn=2.0.0, status=sent (250 2.0.0 <a@b.test> Saved)"
    ),
    b"x: 4F1B2: message-id=<17.ab@x.drill.invalid>",
)


def _journal(data: bytes) -> object:
    """Lines of `journalctl --output=json`."""
    heard: list[tuple[str, str, str]] = []
    journal = Journalctl(("dovecot.service",), lambda *said: heard.append(said))
    try:
        for line in data.split(b"\n"):
            journal._take(line)
    finally:
        journal.close()
    return heard


ENTRY = json.dumps(
    {"__REALTIME_TIMESTAMP": "1790000000000000", "_SYSTEMD_UNIT": "dovecot.service", "SYSLOG_IDENTIFIER": "dovecot",
     "MESSAGE": "imap-login: x"}
).encode()  # fmt: skip


# ---- programs -------------------------------------------------------------------------------------------------------


def _fetched(data: bytes) -> object:
    """`doveadm mailbox list`, and `doveadm -f json fetch` for each."""
    listed, fetched = parts(data, 2)
    return model.dump(
        mailboxes.look(
            "mail1", ["drill1"], "x", lambda _: None, lambda *words: listed if words[0] == "mailbox" else fetched
        )
    )


def _queued(data: bytes) -> object:
    """`postcat -e`, then a message."""
    head, content = data.partition(b"\n\n")[0], data.partition(b"\n\n")[2]
    return envelope(head.decode("utf-8", "surrogateescape")), marks("4F1B2", content)


def _remembered(data: bytes) -> object:
    queue = PostfixQueue.__new__(PostfixQueue)
    queue._memory = written("held.json", data)
    return queue._remembered()


def _handed(data: bytes) -> object:
    journal = Journal(written("handed.jsonl", data))
    try:
        return journal.of("4F1B2", "s")
    finally:
        os.close(journal._file)


HANDED = b"\n".join(
    json.dumps(line).encode()
    for line in (
        {"do": "try", "id": "4F1B2", "sha": "s", "to": "mail2", "recipients": ["b@x"], "at": 1790000000.5},
        {"do": "taken", "id": "4F1B2", "sha": "s", "to": "mail2", "recipients": ["b@x"], "text": "250 ok"},
        {"do": "not", "id": "4F1B3", "sha": "s", "text": "452"},
        {"do": "gone", "id": "4F1B2", "sha": "s"},
    )
)

TARGETS = [
    Target(
        "load-imap",
        "an IMAP server's answers to a simulated person",
        lambda data: run(_heard(data, _imap_session)),
        lambda: [b"\r\n".join(IMAP) + b"\r\n"],
        (AnswerError,),
    ),
    Target(
        "load-smtp",
        "an SMTP server's answers to a simulated person",
        lambda data: run(_heard(data, _smtp_session)),
        lambda: [b"\r\n".join(SMTP) + b"\r\n"],
        (AnswerError,),
    ),
    Target(
        "probe-imap",
        "an IMAP server's answers to the probe",
        lambda data: _probed(_imap_probe, data),
        lambda: [
            b"* OK ready\n--\nTAG OK done\n--\n* 3 EXISTS\r\nTAG OK done\n--\n* BYE\r\nTAG OK done",
            b"* OK [CAPABILITY IMAP4rev1] ready\n--\n* CAPABILITY IMAP4rev1 ID {5}\r\nabcde\r\nTAG OK {3}",
            b"* BYE no",
        ],
    ),
    Target(
        "probe-smtp",
        "an SMTP server's answers to the probe",
        lambda data: _probed(_smtp_probe, data),
        lambda: [b"\n--\n".join([*SMTP[:2], b"250 ok", b"250 ok", b"250 ok", b"221 bye"]), b"554 no"],
    ),
    Target("mail-log", "lines of Dovecot and Postfix", _lines, lambda: [*LINES, b"\n".join(LINES)]),
    Target("journal", "what journalctl prints", _journal, lambda: [ENTRY, ENTRY + b"\n" + ENTRY]),
    Target(
        "doveadm-who",
        "what `doveadm who` prints",
        lambda data: imap_sessions(data, canary="canary"),
        lambda: [
            b"username\t#\tproto\t(pids)\t(ips)\nanna\t2\timap\t(1 2)\t(192.0.2.9)\ncanary\t1\timap\t(3)\t(::1)\n"
        ],
    ),
    Target(
        "doveadm-fetch",
        "what `doveadm fetch` prints",
        _fetched,
        lambda: [b'INBOX\n[{"mailbox":"INBOX","guid":"a1","flags":"\\\\Seen","hdr.message-id":"<1@x>","text":"x"}]'],
        (DrillError,),
    ),
    Target(
        "doveconf",
        "what `doveconf` prints",
        lambda data: limits.numbers(text(data)),
        lambda: [b"10\n100\n1000\n100\n1\n1\n1024\n1\n"],
    ),
    Target(
        "postcat",
        "what `postcat` prints of a queued message",
        _queued,
        lambda: [
            (
                b"*** ENVELOPE RECORDS x ***\nsender: a@b.test\nrecipient: c@b.test\ndone_recipient: d@b.test\n\n"
                b"Received: from x by y id 4F1B2; Sun, 29 Nov 2026 10:00:00 +0000 (UTC)\nMessage-ID: <1@x>\n\nhello\n"
            )
        ],
        (StayError,),
    ),
    Target("held-memory", "which messages are held", _remembered, lambda: [b'["4F1B2", "4F1B3"]'], (OSError,)),
    Target("handed-journal", "what was tried with each message", _handed, lambda: [HANDED + b"\n"], (ValueError,)),
]
