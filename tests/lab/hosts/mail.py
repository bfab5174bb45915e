"""Dovecot and Postfix as a careful administrator runs them, and the mail store that the data nodes share.

Both serve on every data node all the time (warm); who may reach them is decided by failoverd's gate. Users are looked
up on the host's own database server. Mail is delivered through the VIP, so that a queue follows the role.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import layout
from .rootfiles import enable, render, write

if TYPE_CHECKING:
    from pathlib import Path

_POSTFIX_AFTER = """# /etc/systemd/system/postfix@.service.d/mail.conf
[Unit]
# An smtpd that starts before Dovecot's auth socket exists dies, and is throttled for a minute.
After=dovecot.service mariadb.service
"""
_DOVECOT_AFTER = "# /etc/systemd/system/dovecot.service.d/mail.conf\n[Unit]\nAfter=mariadb.service\n"
_CANARY_MESSAGE = f"""From: Postmaster <postmaster@{layout.DOMAIN}>
To: Canary <{layout.CANARY}>
Subject: canary
Date: Mon, 01 Jan 2024 00:00:00 +0000
Message-ID: <canary@{layout.DOMAIN}>

If this mailbox can be opened, mail works.
"""


def configure(root: Path, host: str, pki: Path, base_root: Path) -> None:
    """Write the configuration of both services into a data node's root."""
    write(root / "etc/ssl/mail/mail.crt", (pki / "mail.crt").read_text() + (pki / "ca.crt").read_text())
    write(root / "etc/ssl/mail/mail.key", (pki / "mail.key").read_text(), mode=0o600)
    write(root / "etc/dovecot/dovecot.conf", render("dovecot.conf"))
    write(root / "etc/dovecot/dovecot-sql.conf.ext", render("dovecot-sql.conf.ext"), mode=0o600)
    for name in ("main.cf", "master.cf"):
        write(root / f"etc/postfix/{name}", render(name, HOST=host))
    for name in ("sql-domains.cf", "sql-users.cf"):
        write(root / f"etc/postfix/{name}", render(name), mode=0o640)  # it holds a password, and proxymap is no root
        os.chown(root / f"etc/postfix/{name}", 0, _group_id(base_root, "postfix"))
    write(root / "etc/mailname", f"{host}.{layout.DOMAIN}\n")
    write(root / "etc/systemd/system/postfix@.service.d/mail.conf", _POSTFIX_AFTER)
    write(root / "etc/systemd/system/dovecot.service.d/mail.conf", _DOVECOT_AFTER)
    write(root / "etc/nftables.conf", render("nftables.conf"))
    enable(root, "nftables.service", "sysinit.target", where="/lib/systemd/system")
    for unit in ("dovecot.service", "postfix.service"):
        enable(root, unit, where="/lib/systemd/system")


def build_store(place: Path) -> None:
    """Make the shared store: the canary's mailbox with one message in it; users' mailboxes come with their mail."""
    inbox = place / layout.DOMAIN / "canary/Maildir"
    for part in ("cur", "new", "tmp"):
        (inbox / part).mkdir(parents=True)
    write(inbox / "cur/1704067200.M1P1.lab:2,S", _CANARY_MESSAGE, mode=0o600)
    for path in (place, *place.rglob("*")):
        os.chown(path, layout.VMAIL_ID, layout.VMAIL_ID)
        if path.is_dir():
            path.chmod(0o700)


def _group_id(root: Path, group: str) -> int:
    lines = (root / "etc/group").read_text().splitlines()
    return next(int(line.split(":")[2]) for line in lines if line.startswith(f"{group}:"))
