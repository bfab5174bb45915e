"""What a drill compares of mailboxes, at a real Dovecot: each planted difference is found, and only that one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from load_stage import ACCOUNTS, DRILL, Servers, staged

from failoverd.drill.comparing import consistency
from failoverd.drill.job import domain_of
from failoverd.drill.mailboxes import look
from failoverd.drill.model import Acknowledged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from failoverd.drill.model import Consistency, MailboxesDone

pytestmark = pytest.mark.root
ONE, OTHER = ACCOUNTS[:2]


@pytest.fixture(scope="module")
def staged_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    yield from staged(tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("above"))


def save(servers: Servers, account: str, name: str, mailbox: str = "INBOX") -> None:
    message = f"Message-ID: <{name}@{domain_of(DRILL)}>\\r\\nSubject: {name}\\r\\n\\r\\nWords of {name}.\\r\\n"
    servers.run("sh", "-c", f"printf '{message}' | doveadm save -u {account} -m '{mailbox}'")


@pytest.fixture
def servers(staged_servers: Servers) -> Servers:
    """Two messages for one account, one of them seen, and one for another, which has an empty mailbox too."""
    stage = staged_servers
    stage.run("sh", "-c", "rm -rf /srv/mail/*")
    save(stage, ONE, "first")
    save(stage, ONE, "second")
    save(stage, OTHER, "third")
    stage.run("doveadm", "flags", "add", "-u", ONE, "\\Seen", "mailbox", "INBOX", "header", "subject", "first")
    stage.run("doveadm", "mailbox", "create", "-u", OTHER, "Empty")
    return stage


def seen_by(servers: Servers, node: str) -> MailboxesDone:
    def ask(*arguments: str) -> bytes:
        return servers.run("doveadm", *arguments).encode("utf-8", "surrogateescape")

    return look(node, (ONE, OTHER), domain_of(DRILL), lambda _: None, ask)


def compared(one: MailboxesDone, other: MailboxesDone) -> Consistency:
    names = [f"<{name}@{domain_of(DRILL)}>" for name in ("first", "second", "third")]
    acknowledged = [
        Acknowledged(message_id=name, account=ONE, mailbox="INBOX", how="append", at_ms=1, size=1) for name in names
    ]
    return consistency([], [one, other], acknowledged, "mail1")


def test_the_same_mailboxes_are_the_same(servers: Servers) -> None:
    found = compared(seen_by(servers, "mail1"), seen_by(servers, "mail2"))
    assert (found.mailboxes_differ, found.lost, found.twice) == ((), (), ())
    assert (found.mailboxes, found.messages) == (3, 3), "the empty one is one of them"


def flag(servers: Servers) -> None:
    servers.run("doveadm", "flags", "add", "-u", ONE, "\\Flagged", "mailbox", "INBOX", "header", "subject", "second")


def expunge(servers: Servers) -> None:
    servers.run("doveadm", "expunge", "-u", ONE, "mailbox", "INBOX", "header", "subject", "second")


def rewrite(servers: Servers) -> None:
    """Change one word of a message, and not its length, behind Dovecot's back."""
    servers.run("sh", "-c", f"sed -i s/Words/Sword/ $(grep -rl 'Words of second' /srv/mail/example.test/{ONE[:6]})")


def copy(servers: Servers) -> None:
    servers.run("doveadm", "copy", "-u", ONE, "INBOX", "mailbox", "INBOX", "header", "subject", "second")


def replace(servers: Servers) -> None:
    """The same words in another message."""
    expunge(servers)
    save(servers, ONE, "second")


def drop_empty(servers: Servers) -> None:
    servers.run("doveadm", "mailbox", "delete", "-u", OTHER, "Empty")


def make_empty(servers: Servers) -> None:
    servers.run("doveadm", "mailbox", "create", "-u", ONE, "New")


def rename(servers: Servers) -> None:
    servers.run("doveadm", "mailbox", "rename", "-u", OTHER, "Empty", "Void")


@pytest.mark.parametrize(
    ("plant", "differ"),
    [
        (flag, (f"{ONE} INBOX",)),
        (expunge, (f"{ONE} INBOX",)),
        (rewrite, (f"{ONE} INBOX",)),
        (copy, (f"{ONE} INBOX",)),
        (replace, (f"{ONE} INBOX",)),
        (drop_empty, (f"{OTHER} Empty",)),
        (make_empty, (f"{ONE} New",)),
        (rename, (f"{OTHER} Empty", f"{OTHER} Void")),
    ],
)
def test_a_difference_is_found_where_it_is(
    servers: Servers, plant: Callable[[Servers], None], differ: tuple[str, ...]
) -> None:
    before = seen_by(servers, "mail1")
    plant(servers)
    assert compared(before, seen_by(servers, "mail2")).mailboxes_differ == differ


def test_what_is_lost_or_there_twice_is_named(servers: Servers) -> None:
    """As the primary has it: all others are compared with it."""
    copy(servers)
    servers.run("doveadm", "expunge", "-u", ONE, "mailbox", "INBOX", "header", "subject", "first")
    seen = seen_by(servers, "mail1")
    found = compared(seen, seen)
    assert found.lost == (f"<first@{domain_of(DRILL)}>",)
    assert found.twice == (f"<second@{domain_of(DRILL)}>",)
