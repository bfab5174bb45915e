"""Hands the mail in this node's queue on to the primary: a program that runs for some seconds where something waits.

    hold all ─> for each message: envelope and content (postcat) ─> which recipients have it already? (doveadm)
       the rest ─> journal ─> SMTP to the primary's node address ─250─> journal ─> deleted here
                              4xx, no connection: tried again later · 5xx: stays, QUEUE_REFUSED

**What is guaranteed.** An accepted message is never lost: it leaves this queue only once every recipient's mailbox has
it or the primary has said 250 for it, and the primary's Postfix says that when it is on its disk. Each recipient gets
it once, with these exceptions, all on the side of twice:

- The connection, this program or the host ended between the message's last byte and the line about the 250 (journal).
  Then the mailbox is asked, again and again for UNSURE_S, since the message may be in the primary's queue; only when it
  is not there by then is it sent again. The primary's own queue is not asked.
- The recipient is no mailbox here (outgoing mail), or has deleted or exported the message meanwhile: nobody knows.
- What delivered the message cut off the header that names it (below).

**How a message is known again.** By its Message-ID, and by what this Postfix wrote at its top when it accepted it, its
own queue id and the time (`Received: by … id 3F2A; Sat, …`), which both stay in it on every way. So two messages with
one Message-ID (a copy by a list; a careless sender) are two messages, and one without a Message-ID is found as well.
Where the Received line was cut off (header_checks with IGNORE), the Message-ID alone decides: then a second message
with the same one counts as there already. With neither, nobody is asked, and what was in flight comes twice.
Aliases are in the queue already resolved; an address with a `recipient_delimiter` is asked for without it as well.

What is not carried over: a sender's wish for delivery notices (NOTIFY, ORCPT, ENVID).

Messages for this host itself (its own name or localhost, where `mydestination` has them: cron, bounces to root) are
left to its own Postfix.

**On the primary** (`own`), for what it held before it was one: a message that no mailbox has goes back to Postfix as it
is, one that all have is deleted, one that some have goes to its own Postfix by SMTP for the others.

doveadm opens the mailboxes from this node, beside the primary's Dovecot: what holds for several nodes on one mail store
holds for it, locks included. It is told to end with this program, and given 200 ms; a lock file that it still left then
would keep that one mailbox waiting until Dovecot overrides it.

A message that is being delivered at this moment (its file is locked by a delivery agent) is left for the next run.
SIGTERM ends it between two messages. Standard input is the task, the last line of the output the answer, both JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.actions.queue import PostfixQueue
from failoverd.actions.queue_journal import Journal
from failoverd.core.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSURE_S = 600.0  # how long a message that the primary may have is looked for before it is sent again
TOOL_S = 20.0  # postcat, postconf, doveadm: each
SMTP_S = 20.0  # each answer
SPARE_S = 5.0  # before the deadline no other message is begun
EX_NOUSER = 67  # doveadm's: there is no such mailbox
FINAL = 500  # SMTP's codes from here on say "never"
OK = 250


@dataclass(frozen=True, slots=True)
class Task:
    """What the daemon asks for. `tools` maps a program's name to its path; `ca` empty: no certificate is asked for."""

    spool: str
    config: str
    memory: str
    journal: str
    to: str
    address: str
    port: int
    tls: str
    ca: str
    server_name: str
    ehlo: str
    own: bool
    seconds: float
    tools: dict[str, str]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the queue: what is left of its envelope, and its content as it is sent."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    sha: str
    marks: tuple[tuple[str, str], ...]  # (header, text): what it is known by


class StayError(Exception):
    """The message stays for now, and why."""


class UnsureError(Exception):
    """It was sent, and nobody knows whether it was taken."""


@dataclass(slots=True)
class Taken:
    """What became of one message's recipients at the other's."""

    taken: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    later: dict[str, str] = field(default_factory=dict)
    text: str = ""


def envelope(text: str) -> tuple[str, tuple[str, ...]]:
    """Sender and undelivered recipients, as `postcat -e` prints them; delivered ones are `done_recipient`."""
    found: dict[str, list[str]] = {"sender": [], "recipient": []}
    for line in text.splitlines():
        name, colon, value = line.partition(": ")
        if colon and name in found:
            found[name].append(value)
        elif line == "sender:":
            found["sender"].append("")
    if not found["sender"]:
        raise StayError("its envelope names no sender")
    return found["sender"][0], tuple(dict.fromkeys(found["recipient"]))


def marks(one: str, content: bytes) -> tuple[tuple[str, str], ...]:
    """What a message is known by: its Message-ID, and the Received line that this Postfix has put at its top."""
    headers = BytesHeaderParser().parsebytes(content.partition(b"\n\n")[0] + b"\n\n")
    found = []
    ident = " ".join(str(headers.get("Message-ID", "")).split())
    if ident:
        found.append(("message-id", ident))
    received = " ".join(str(headers.get("Received", "")).split())
    stamp, _, date = received.rpartition(";")
    if re.search(rf"\bid {re.escape(one)}\b", stamp):
        found += [("received", one), ("received", date.partition("(")[0].strip())]
    return tuple(found)


class Tools:
    """The programs of Postfix and Dovecot."""

    def __init__(self, task: Task) -> None:
        self._task = task
        me = self._setting("myhostname").lower()
        local = {name.lower() for name in re.split(r"[,\s]+", self._setting("mydestination"))}
        self.own_domains = {name for name in local if name in (me, "localhost") or name.startswith("localhost.")}
        self._delimiters = self._setting("recipient_delimiter")

    def _setting(self, name: str) -> str:
        return self._run("postconf", "-c", self._task.config, "-xh", name)[1].decode().strip()

    def _run(self, name: str, *arguments: str) -> tuple[int, bytes]:
        path = self._task.tools[name]
        try:
            ended = subprocess.run(  # noqa: S603 - the configuration names it, no shell
                [path, *arguments], capture_output=True, check=False, timeout=TOOL_S, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:  # ValueError: a NUL in what it is asked for
            raise StayError(f"{name}: {error}") from error
        if ended.returncode not in (0, EX_NOUSER):
            words = " ".join(ended.stderr.decode(errors="replace").split())[-160:]
            raise StayError(f"{name}: exit {ended.returncode}: {words}")
        return ended.returncode, ended.stdout

    def message(self, one: str) -> Message:
        """Read it. Raises StayError."""
        config = ("-c", self._task.config)
        sender, recipients = envelope(self._run("postcat", *config, "-eq", one)[1].decode("utf-8", "surrogateescape"))
        content = self._run("postcat", *config, "-bhq", one)[1]
        digest = hashlib.sha256(sender.encode("utf-8", "surrogateescape") + b"\0" + content).hexdigest()[:32]
        return Message(one, sender, recipients, content, digest, marks(one, content))

    def has_it(self, recipient: str, message: Message) -> bool:
        """Whether the recipient's mailboxes hold this message. Raises StayError where they cannot be asked."""
        if not message.marks:
            return False
        query = [word for name, text in message.marks for word in ("header", name, text)]
        for user in self._users(recipient):
            code, found = self._run("doveadm", "search", "-u", user, "mailbox", "*", *query)
            if code == 0:
                return bool(found.strip())
        return False

    def _users(self, recipient: str) -> Iterator[str]:
        """The address, and without what follows the delimiter."""
        yield recipient
        local, at, domain = recipient.rpartition("@")
        places = [local.find(sign) for sign in self._delimiters if local.find(sign) > 0]
        if places:
            yield local[: min(places)] + at + domain

    def is_own(self, message: Message) -> bool:
        """Whether all of it is for this host itself."""
        domains = {recipient.rpartition("@")[2].lower() for recipient in message.recipients}
        return bool(domains) and domains <= self.own_domains


class Other:
    """The primary's SMTP server, over one connection."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._smtp: smtplib.SMTP | None = None

    def _connected(self) -> smtplib.SMTP:
        if self._smtp is not None:
            return self._smtp
        task = self._task
        context = ssl.create_default_context(cafile=task.ca) if task.ca else ssl.create_default_context()
        smtp = (
            smtplib.SMTP_SSL(local_hostname=task.ehlo, timeout=SMTP_S, context=context)
            if task.tls == "implicit"
            else smtplib.SMTP(local_hostname=task.ehlo, timeout=SMTP_S)
        )
        # The name that the certificate must be for: it is reached by its address.
        smtp._host = task.server_name  # type: ignore[attr-defined] # noqa: SLF001 - no other way in
        code, text = smtp.connect(task.address, task.port)
        if code != 220:
            raise StayError(f"{task.to}: {_words(code, text)}")
        if task.tls == "starttls":
            smtp.starttls(context=context)
        smtp.ehlo_or_helo_if_needed()
        self._smtp = smtp
        return smtp

    def send(self, message: Message, recipients: list[str], journal: Journal) -> Taken:
        """Offer it. Raises StayError when it certainly was not taken, UnsureError when nobody knows."""
        try:
            return self._send(self._connected(), message, recipients, journal)
        except (OSError, smtplib.SMTPException, ValueError) as error:  # ValueError: an address that cannot be sent
            self.close()
            raise StayError(f"{self._task.to}: {error}") from error

    def _send(self, smtp: smtplib.SMTP, message: Message, recipients: list[str], journal: Journal) -> Taken:
        fates = Taken()
        code, text = smtp.mail(message.sender, self._options(smtp, message, recipients))
        if code != OK:
            _sorted(fates, recipients, code, text)
            smtp.rset()
            return fates
        accepted = []
        for recipient in recipients:
            code, text = smtp.rcpt(recipient)
            if code in (OK, 251):
                accepted.append(recipient)
            else:
                _sorted(fates, [recipient], code, text)
        if not accepted:
            smtp.rset()
            return fates
        journal.trying(message.id, message.sha, self._task.to, accepted)
        try:
            code, text = smtp.data(message.content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        except smtplib.SMTPDataError as error:  # no 354: it was not even begun
            code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            raise UnsureError(f"{self._task.to}: {error}") from error
        if code == OK:
            fates.taken, fates.text = set(accepted), _words(code, text)
            journal.taken(message.id, message.sha, self._task.to, accepted, fates.text)
        else:
            journal.not_taken(message.id, message.sha, _words(code, text))
            _sorted(fates, accepted, code, text)
            smtp.rset()
        return fates

    def _options(self, smtp: smtplib.SMTP, message: Message, recipients: list[str]) -> list[str]:
        options = [] if message.content.isascii() else ["BODY=8BITMIME"]
        if not "".join((message.sender, *recipients)).isascii():
            options.append("SMTPUTF8")
        for option in options:
            if not smtp.has_extn(option.removeprefix("BODY=")):
                raise StayError(f"{self._task.to} does not take {option}")
        return options

    def close(self) -> None:
        """Say goodbye, if anybody listens."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                smtp.quit()
            smtp.close()


def _words(code: int, text: bytes) -> str:
    return f"{code} {' '.join(text.decode(errors='replace').split())}"[:200]


def _sorted(fates: Taken, recipients: list[str], code: int, text: bytes) -> None:
    where = fates.refused if code >= FINAL else fates.later
    where.update(dict.fromkeys(recipients, _words(code, text)))


class Handing:
    """One run over the queue."""

    def __init__(self, task: Task, tools: Tools, journal: Journal, queue: PostfixQueue) -> None:
        self._task = task
        self._tools = tools
        self._journal = journal
        self._queue = queue
        self._other = Other(task)
        self.counts: Counter[str] = Counter()
        self.why: dict[str, str] = {}  # the first reason of each kind
        self.stopped = False
        self._end = time.monotonic() + task.seconds - SPARE_S

    def work(self) -> None:
        """Every held message once, while there is time."""
        held = sorted(self._queue.held())
        self.counts["held"] = len(held)
        for one in held:
            if self.stopped or time.monotonic() > self._end:
                self._stays("left", "there was no time for more")
                continue
            try:
                self._one(one)
            except (StayError, UnsureError) as error:
                self._stays("left", f"{one}: {error}")
            except FileNotFoundError:
                pass  # an administrator has removed it
        self._other.close()

    def _stays(self, kind: str, reason: str) -> None:
        self.counts[kind] += 1
        self.why.setdefault(kind, reason)

    def _one(self, one: str) -> None:
        with self._queue.path(one).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StayError("it is being delivered at this moment") from None
            self._locked(self._tools.message(one))

    def _locked(self, message: Message) -> None:
        """Nobody else delivers it now."""
        if self._tools.is_own(message):
            self._give_back(message)
            self._stays("own", f"{message.id} is for this host itself")
            return
        tried = self._journal.of(message.id, message.sha)
        there = {one for one in message.recipients if one not in tried.taken and self._tools.has_it(one, message)}
        missing = [one for one in message.recipients if one not in tried.taken and one not in there]
        if self._task.own and len(missing) == len(message.recipients) and not tried.unsure:
            self._give_back(message)
            self.counts["released"] += 1
            return
        unsure = tried.unsure & set(missing)
        waited = abs(time.time() - tried.at) >= UNSURE_S  # a clock that was set makes it earlier, never endless
        if unsure and not waited:
            raise StayError(f"{self._task.to} may have it in its queue: waiting until it is in the mailbox")
        if unsure:
            self.counts["sent again unsure"] += 1
        fates = self._other.send(message, missing, self._journal) if missing else Taken()
        if fates.refused:
            recipient, text = next(iter(fates.refused.items()))
            self._stays("refused", f"{message.id} for {recipient}: {text}")
        elif fates.later:
            recipient, text = next(iter(fates.later.items()))
            self._stays("left", f"{message.id} for {recipient}: {text}")
        else:
            self._remove(message)
            self.counts["handed on" if missing or tried.taken else "there already"] += 1
            if fates.text:
                self.why["handed on"] = f"the last as {fates.text}"

    def _give_back(self, message: Message) -> None:
        result = asyncio.run(self._queue.release({message.id}, deadline_ms=int(TOOL_S * 1000)))
        if result.outcome is not Outcome.SUCCEEDED:
            raise StayError(result.reason)
        self._journal.gone(message.id, message.sha)

    def _remove(self, message: Message) -> None:
        result = asyncio.run(self._queue.delete(message.id, deadline_ms=int(TOOL_S * 1000)))
        if result.outcome is not Outcome.SUCCEEDED:
            raise StayError(result.reason)
        self._journal.gone(message.id, message.sha)

    def answer(self) -> dict[str, str]:
        """Outcome, code and words."""
        counts = ", ".join(f"{number} {kind}" for kind, number in self.counts.items() if number)
        words = "; ".join([counts or "0 held", *self.why.values()])[:900]
        code = "QUEUE_REFUSED" if self.counts["refused"] else "QUEUE_LEFT" if self.counts["left"] else ""
        return {"outcome": (Outcome.FAILED if code else Outcome.SUCCEEDED).value, "code": code, "reason": words}


def failed(code: str, reason: str) -> dict[str, str]:
    """Give the answer of a run that could not even begin."""
    return {"outcome": Outcome.FAILED.value, "code": code, "reason": reason}


def run(task: Task) -> dict[str, str]:
    """Hold, then hand on; the answer."""
    queue = PostfixQueue(Path(task.spool), Path(task.memory), config=task.config, postsuper=task.tools["postsuper"])
    lock = os.open(f"{task.journal}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return failed("QUEUE_FAILED", "an earlier run has not ended, although it was killed")
    if not task.own:
        held = asyncio.run(queue.hold(deadline_ms=int(TOOL_S * 1000)))
        if held.outcome is not Outcome.SUCCEEDED:
            return failed(held.code, held.reason)
    try:
        handing = Handing(task, Tools(task), Journal(Path(task.journal)), queue)
    except StayError as error:
        return failed("QUEUE_NO_TOOLS", str(error))
    except (OSError, ValueError, KeyError) as error:
        return failed("QUEUE_FAILED", f"{task.journal}: {error}")

    def stop(_number: int, _frame: object) -> None:
        handing.stopped = True

    signal.signal(signal.SIGTERM, stop)
    handing.work()
    return handing.answer()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(Task(**json.load(sys.stdin)))) + "\n")
