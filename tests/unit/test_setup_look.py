"""What Dovecot's settings, certificates and the kernel's lists are taken to say."""

from __future__ import annotations

import datetime as dt
import socket
from typing import TYPE_CHECKING

import pytest

from failoverd.setup import look, look_mail
from failoverd.setup.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime.now(dt.UTC)


@pytest.mark.parametrize(
    ("location", "store"),
    [
        ("maildir:/srv/mail/%d/%n/Maildir\n", "/srv/mail"),
        ("maildir:/srv/mail/box-%n", "/srv/mail"),
        ("mdbox:/var/vmail/%u:INDEX=/var/index/%u", "/var/vmail"),
        ("sdbox:/srv/mail:INDEX=/idx", "/srv/mail"),
        ("sdbox:/srv/mail/", "/srv/mail"),
        ("mbox:~/mail:INBOX=/var/mail/%u", ""),
        ("maildir:%h/Maildir", ""),
        ("", ""),
    ],
)
def test_the_mail_store_is_above_all_mailboxes(location: str, store: str) -> None:
    assert look_mail.store_of(location) == store


def test_the_certificate_says_its_names_and_its_chain_the_ca(tmp_path: Path) -> None:
    authority = Authority.create("mail", NOW)
    leaf = authority.node("mail.example.org", "192.0.2.1", NOW).certificate
    whole, alone, damaged = tmp_path / "whole.pem", tmp_path / "alone.pem", tmp_path / "damaged.pem"
    whole.write_bytes(leaf + authority.pem)
    alone.write_bytes(leaf)
    damaged.write_bytes(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
    assert look_mail.certificate_of(str(whole)) == (("mail.example.org",), str(whole))
    assert look_mail.certificate_of(str(alone)) == (("mail.example.org",), "")
    assert look_mail.certificate_of(str(damaged)) == ((), "")
    assert look_mail.certificate_of(str(tmp_path / "none")) == ((), "")


def test_what_is_listened_on_for_this_host_alone_is_no_port_for_clients() -> None:
    with socket.create_server(("127.0.0.1", 0)) as alone, socket.create_server(("0.0.0.0", 0)) as open_to_all:
        found = look.ports()
        assert open_to_all.getsockname()[1] in found
        assert alone.getsockname()[1] not in found


def test_the_file_system_of_a_path_is_that_of_the_nearest_mount() -> None:
    assert look.file_system("/proc/self/status") == "proc"
    assert look.file_system("/") not in {"", "proc"}


def test_a_program_that_is_not_there_fails_or_hangs_says_nothing() -> None:
    assert look.output("echo", "a") == "a\n"
    assert look.output("no-such-program") == ""
    assert look.output("false") == ""
    assert look.output("sleep", "60", within_s=0.05) == ""
