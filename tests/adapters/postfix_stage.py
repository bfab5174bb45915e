"""A real Postfix, a second one that takes over from it, and a Dovecot with their mailboxes: no booted host.

The lab's binaries in namespaces of their own; what they write goes into a tmpfs above the lab's root, which ends with
the process that holds it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mariadb_servers import lab_root, wait_for

from failoverd.actions.handon import JOURNAL, MEMORY, TOOLS, HandOn, Postfix
from failoverd.actions.queue import PostfixQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
NOBODY_LISTENS_AT = 2599
NOBODY_LISTENS = f"smtp:[127.0.0.1]:{NOBODY_LISTENS_AT}"
PRIMARY_PORT, TLS_PORT, LMTP_PORT = 2526, 2527, 2424
SETTINGS = f"""
compatibility_level = 3.6
myhostname = mail1.lab.test
mydestination = localhost, $myhostname
recipient_delimiter = +
inet_interfaces = loopback-only
inet_protocols = ipv4
maillog_file = /var/log/postfix.log
alias_maps =
smtp_dns_support_level = disabled
virtual_mailbox_domains = example.test
virtual_transport = {NOBODY_LISTENS}
default_transport = {NOBODY_LISTENS}
"""
PRIMARY_SETTINGS = SETTINGS.replace("mail1", "mail2").replace(NOBODY_LISTENS, f"lmtp:inet:[127.0.0.1]:{LMTP_PORT}", 1)
PRIMARY_SETTINGS += """
queue_directory = /var/spool/postfix2
data_directory = /var/lib/postfix2
meta_directory = /etc/postfix
maillog_file = /var/log/postfix2.log
mynetworks =
smtpd_relay_restrictions = reject_unauth_destination
virtual_mailbox_maps = static:all
smtpd_tls_security_level = may
smtpd_tls_chain_files = /etc/postfix2/key-and-certificate
"""
DOVECOT = f"""
protocols = lmtp
mail_location = maildir:/srv/mail/%d/%n/Maildir
mail_uid = 5000
mail_gid = 5000
first_valid_uid = 5000
log_path = /var/log/dovecot.log
ssl = no
passdb {{
  driver = passwd-file
  args = /etc/dovecot/users
}}
userdb {{
  driver = passwd-file
  args = /etc/dovecot/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {LMTP_PORT}
  }}
}}
"""
USERS = ("b@example.test", "c@example.test")
ENTER = """
mount -t tmpfs above "$0" && mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay root -o "lowerdir=$1,upperdir=$0/upper,workdir=$0/work" "$0/root"
mount -t proc proc "$0/root/proc" && mount --bind /dev "$0/root/dev" && ip link set lo up && touch "$0/root/entered"
exec chroot "$0/root" sleep infinity
"""


def confined(unit: str) -> list[str]:
    """Give the command that runs another one with the capabilities of a shipped unit."""
    text = (REPOSITORY / "systemd" / unit).read_text(encoding="utf-8")
    names = re.findall(r"CAP_(\w+)", next(line for line in text.splitlines() if line.startswith("CapabilityBounding")))
    return ["setpriv", "--no-new-privs", "--bounding-set", ",".join(["-all", *(f"+{name.lower()}" for name in names)])]


class Stage:
    """Both of them, in the view of the process `anchor`."""

    def __init__(self, anchor: int, directory: Path) -> None:
        self.view = Path(f"/proc/{anchor}/root")
        self._enter = ["nsenter", "-t", str(anchor), "-m", "-n", "-r", "-w"]
        within = [*self._enter, *confined("failoverd-helper.service")]  # which runs them for the daemon
        self.tools = {name: self._script(directory / name, [*within, path]) for name, path in TOOLS.items()}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.postsuper = Path(self.tools["postsuper"])
        self._python = self._script(directory / "python", ["nsenter", "-t", str(anchor), "-n", sys.executable])

    @staticmethod
    def _script(path: Path, command: list[str]) -> str:
        path.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def run(self, *command: str, text: str = "") -> str:
        """Run a command beside them, give what it prints."""
        ended = subprocess.run([*self._enter, *command], input=text, check=False, capture_output=True, text=True)
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def send(self, number: int | str, to: tuple[str, ...] = ("b@example.test",), *, ident: bool = True) -> None:
        """Put a message into the first one's queue, which delivers to nobody."""
        header = f"Message-ID: <{number}@example.test>\n" if ident else ""
        self.run("sendmail", "-f", "a@example.test", *to, text=f"From: a@example.test\n{header}\nbody {number}\n.dot\n")

    def start_python(self, script: str) -> None:
        """Start a server of the test's own in this network, and wait until it says that it is ready."""
        started = subprocess.Popen([self._python, "-c", script], stdout=subprocess.PIPE)
        self.servers.append(started)
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n"

    def end_servers(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.kill()
            server.communicate()
        self.servers.clear()

    def queue(self, memory: Path) -> PostfixQueue:
        """Give the first one's queue, as failoverd has it."""
        return PostfixQueue(self.view / "var/spool/postfix", memory / MEMORY, postsuper=str(self.postsuper))

    def hand_on(
        self, memory: Path, *, port: int = PRIMARY_PORT, tls: str = "none", name: str = "mail.lab.test"
    ) -> HandOn:
        """Give what hands it on to the second one."""
        spool, ca = self.view / "var/spool/postfix", "" if tls == "none" else str(self.view / "etc/postfix2/ca")
        return HandOn(
            Postfix(spool, "/etc/postfix", memory, port, tls, ca, name, "mail1", self.tools),
            python=self._python,
        )

    def journal(self, memory: Path) -> Path:
        """Where it writes down what it does."""
        return memory / JOURNAL

    def ids(self) -> list[str]:
        """Give the ids of the first one's held and deferred messages."""
        found = self.run("sh", "-c", "find /var/spool/postfix/hold /var/spool/postfix/deferred -type f")
        return sorted(Path(line).name for line in found.split())

    def save(self, one: str, user: str) -> None:
        """Put a queued message into a mailbox, as a delivery that the queue does not know of has done."""
        content = self.run("postcat", "-bhq", one)
        self.run("doveadm", "save", "-u", user, text=content)

    def bodies(self, user: str = "b@example.test") -> list[str]:
        """Give what is in a mailbox, in the order of the bodies."""
        found = self.run("doveadm", "fetch", "-u", user, "text", "mailbox", "INBOX", "all")
        return sorted(line for line in found.splitlines() if line.startswith("body"))

    def arrived(self, *bodies: str, user: str = "b@example.test") -> None:
        """Wait until exactly these are in the mailbox and the second one has nothing left."""
        spool = self.view / "var/spool/postfix2"
        queue = PostfixQueue(spool, spool / "none")
        wait_for(lambda: not queue.waiting().waiting, name="the second one's queue to run empty")
        assert self.bodies(user) == sorted(bodies)

    def begin(self) -> None:
        """Empty queues and mailboxes, and no server of a former test."""
        self.end_servers()
        self.run("postsuper", "-d", "ALL")
        for user in USERS:
            self.run("doveadm", "expunge", "-u", user, "mailbox", "*", "all")


def staged(directory: Path, above: Path) -> Iterator[Stage]:
    """Start all of it."""
    anchor = subprocess.Popen(
        ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-ec", ENTER, str(above), str(lab_root())]
    )
    stage = Stage(anchor.pid, directory)
    try:
        wait_for((stage.view / "entered").exists, name="the namespace")
        master = (REPOSITORY / "tests/lab/files/master.cf").read_text(encoding="utf-8")
        first, second = stage.view / "etc/postfix", stage.view / "etc/postfix2"
        (first / "main.cf").write_text(SETTINGS)
        (first / "master.cf").write_text(master)
        second.mkdir()
        (second / "main.cf").write_text(PRIMARY_SETTINGS)
        inet = f"{PRIMARY_PORT} inet n - y - - smtpd\n"
        inet += f"{TLS_PORT} inet n - y - - smtpd -o smtpd_tls_wrappermode=yes\n"
        services = [
            line for line in master.splitlines() if not line.startswith(("smtp       inet", "submission", "  -o"))
        ]
        (second / "master.cf").write_text("\n".join([*services, inet]))
        (stage.view / "etc/dovecot/dovecot.conf").write_text(DOVECOT)
        (stage.view / "etc/dovecot/users").write_text("".join(f"{user}:{{PLAIN}}x::::::\n" for user in USERS))
        stage.run("sh", "-c", "mkdir -p /srv/mail /var/lib/postfix2 /var/spool/postfix2 && chown 5000:5000 /srv/mail")
        stage.run("sh", "-c", "chown postfix /var/lib/postfix2 && postfix -c /etc/postfix2 check")
        stage.run("sh", "-c", "dovecot >/dev/null 2>&1")  # it would keep the pipes
        stage.run(
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mail.lab.test"),
            *(
                "-addext",
                "subjectAltName=DNS:mail.lab.test",
                "-keyout",
                "/etc/postfix2/key",
                "-out",
                "/etc/postfix2/ca",
            ),
        )
        stage.run("sh", "-c", "cd /etc/postfix2 && cat key ca > key-and-certificate && chmod 600 key*")
        stage.run("postfix", "start")
        stage.run("postfix", "-c", "/etc/postfix2", "start")
        try:
            yield stage
            stage.begin()
        finally:
            stage.run("postfix", "-c", "/etc/postfix2", "stop")
            stage.run("postfix", "stop")
            stage.run("doveadm", "stop")
    finally:
        anchor.kill()
        anchor.wait()
