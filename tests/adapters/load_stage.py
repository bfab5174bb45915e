"""A real Dovecot and a real Postfix with submission, in a network of their own, and the drill's people beside them.

The lab's binaries, in a view of its root whose changes are in memory and end with the process that holds it. The
generator is the program itself, as the coordinator starts it: orders on stdin, JSON lines on stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
from mariadb_servers import lab_root, wait_for
from postfix_stage import ENTER, REPOSITORY

from failoverd.drill import counters, model
from failoverd.drill.comparing import ledger
from failoverd.drill.model import Acknowledged, LoadDone, LoadNow, LoadPlan, Second

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator

    from failoverd.drill.model import CountersDone

T = TypeVar("T")
NAME, DRILL = "mail.lab.test", "20260101-010203-switchover"
ACCOUNTS = tuple(f"drill{number}@example.test" for number in range(1, 6))
PASSWORD = 'a "quoted" \\ password'
IMAP, IMAPS, SUBMISSION, SUBMISSIONS, DEFERS, REJECTS = 143, 993, 587, 465, 2587, 2588
DOVECOT = """
protocols = imap lmtp
listen = 127.0.0.1
log_path = /var/log/dovecot.log
ssl = required
ssl_cert = </etc/load/certificate
ssl_key = </etc/load/key
mail_location = maildir:/srv/mail/%d/%n/Maildir
mail_uid = 5000
mail_gid = 5000
first_valid_uid = 5000
mail_max_userip_connections = 1000
passdb {
  driver = passwd-file
  args = /etc/dovecot/users
}
userdb {
  driver = passwd-file
  args = /etc/dovecot/users
}
service imap-login {
  service_count = 0
  client_limit = 2000
  process_min_avail = 2
}
service imap {
  process_limit = 2000
}
# Each of its processes is one of anvil's clients.
service anvil {
  client_limit = 5000
}
service lmtp {
  inet_listener lmtp {
    port = 24
  }
}
service auth {
  client_limit = 4000
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
"""
POSTFIX = """
compatibility_level = 3.6
myhostname = mail.lab.test
mydestination = localhost
inet_interfaces = loopback-only
inet_protocols = ipv4
maillog_file = /var/log/postfix.log
alias_maps =
smtp_dns_support_level = disabled
virtual_mailbox_domains = example.test
virtual_mailbox_maps = static:all
virtual_transport = lmtp:inet:[127.0.0.1]:24
default_transport = error:nothing leaves
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_tls_chain_files = /etc/load/key, /etc/load/certificate
smtpd_client_connection_count_limit = 0
service_throttle_time = 1s
"""
SUBMISSION_SERVICE = """
127.0.0.1:{port} inet n - y - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_tls_wrappermode={wrapped}
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_recipient_restrictions={restrictions}
"""


class Servers:
    """Both, in the view of the process `anchor`."""

    def __init__(self, anchor: int, directory: Path, accounts: dict[str, str]) -> None:
        self.view, self._directory, self.accounts = Path(f"/proc/{anchor}/root"), directory, accounts
        self._enter = ["nsenter", "-t", str(anchor), "-m", "-n", "-r", "-w"]
        self.network = ["nsenter", "-t", str(anchor), "-n"]
        self.ca = directory / "ca"
        self.accounts_file = directory / "accounts"
        self.accounts_file.write_text("".join(f"{name}:{password}\n" for name, password in accounts.items()))

    def run(self, *command: str) -> str:
        """Run a command beside them, give what it prints."""
        ended = subprocess.run([*self._enter, *command], check=False, capture_output=True, text=True)
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def configure(self, dovecot: str = DOVECOT, postfix: str = POSTFIX) -> None:
        """Write the settings of both."""
        master = (REPOSITORY / "tests/lab/files/master.cf").read_text(encoding="utf-8").splitlines()
        kept = [line for line in master if not line.startswith(("smtp       inet", "submission", "  -o"))]
        services = (
            (SUBMISSION, "no", "permit_sasl_authenticated,reject"),
            (SUBMISSIONS, "yes", "permit_sasl_authenticated,reject"),
            (DEFERS, "no", "defer"),
            (REJECTS, "no", "reject"),
        )
        kept += [
            SUBMISSION_SERVICE.format(port=port, wrapped=wrapped, restrictions=restrictions)
            for port, wrapped, restrictions in services
        ]
        etc = self.view / "etc"
        (etc / "postfix/main.cf").write_text(postfix)
        (etc / "postfix/master.cf").write_text("\n".join(kept))
        (etc / "dovecot/dovecot.conf").write_text(dovecot)
        users = (f"{name}:{{PLAIN}}{password}::::::\n" for name, password in self.accounts.items())
        (etc / "dovecot/users").write_text("".join(users))
        (etc / "load").mkdir()
        self.run("sh", "-c", "mkdir -p /srv/mail && chown 5000:5000 /srv/mail")
        self.run(
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN={NAME}",
            ),
            *("-addext", f"subjectAltName=DNS:{NAME}", "-keyout", "/etc/load/key", "-out", "/etc/load/certificate"),
        )
        self.ca.write_bytes((etc / "load/certificate").read_bytes())

    def start(self) -> None:
        """Start both."""
        self.start_dovecot()
        self.run("postfix", "start")

    def stop(self) -> None:
        """Stop both, without waiting for what they are at: all that they have goes with the view."""
        self.run("postfix", "abort")
        self.kill_dovecot()

    # ---- Dovecot ----------------------------------------------------------------------------------------------------

    def start_dovecot(self) -> None:
        """Start it; connections are taken when this returns."""
        self.run("sh", "-c", "dovecot >/dev/null 2>&1")  # it would keep the pipes

    def _dovecot(self) -> list[psutil.Process]:
        """All of its processes."""
        master = psutil.Process(int((self.view / "run/dovecot/master.pid").read_text()))
        return [master, *master.children(recursive=True)]

    def signal_dovecot(self, number: signal.Signals) -> None:
        """Send it to all of its processes, the master first: it makes no new ones meanwhile."""
        for process in self._dovecot():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:  # it came to its end by itself
                continue

    def kill_dovecot(self) -> None:
        """End all of it at once."""
        master = psutil.Process(int((self.view / "run/dovecot/master.pid").read_text()))
        master.suspend()  # else it may make one more, which outlives it and keeps a port
        processes = [master, *master.children(recursive=True)]
        for process in processes:
            if process.is_running():
                process.kill()
        wait_for(lambda: not any(map(_lives, processes)), name="Dovecot's processes to be gone")

    # ---- what they know ---------------------------------------------------------------------------------------------

    def held(self) -> list[str]:
        """Give the Message-ID of every message in every mailbox of the accounts."""
        told = self.run("doveadm", "-f", "tab", "fetch", "-A", "hdr.message-id", "mailbox", "*", "all")
        return [line.split("\t")[-1] for line in told.splitlines()[1:]]

    def delivered(self) -> None:
        """Wait until Postfix has nothing left to deliver."""
        queues = [self.view / "var/spool/postfix" / name for name in ("maildrop", "incoming", "active", "deferred")]
        flushed_s = 0.0

        def empty() -> bool:
            nonlocal flushed_s
            if any(queues[-1].iterdir()) and time.monotonic() > flushed_s + 1:
                # What Dovecot was not there to take; once more where it was put back before all was forgiven.
                self.run("postqueue", "-f")
                flushed_s = time.monotonic()
            return not any(any(queue.iterdir()) for queue in queues)

        wait_for(empty, seconds=20.0, name="Postfix's queues to run empty")

    def queued(self) -> set[str]:
        """Give the Message-ID of every message that Postfix has not delivered yet."""
        places = "maildrop incoming active deferred"
        told = self.run("sh", "-c", f"cd /var/spool/postfix && grep -ahro '<[^<>]*drill.invalid>' {places} || true")
        return set(told.split())

    def counted(self) -> CountersDone:
        """Count as a drill does, from what they have logged since the last `forget`."""
        lines = (self.view / "var/log/dovecot.log").read_text(encoding="utf-8").splitlines()
        for line in (self.view / "var/log/postfix.log").read_text(encoding="utf-8").splitlines():
            lines.append(line.partition("]: ")[2])  # as the journal has it
        return counters.count("mail", lines, set(self.accounts), f"{DRILL}.drill.invalid")

    def log(self) -> str:
        """Give Dovecot's log."""
        return (self.view / "var/log/dovecot.log").read_text(encoding="utf-8")

    def stored(self) -> Counter[str]:
        """Count the messages of all accounts, by mailbox."""
        told = self.run("doveadm", "-f", "tab", "fetch", "-A", "mailbox", "mailbox", "*", "all")
        return Counter(line.split("\t")[-1] for line in told.splitlines()[1:])

    def forget(self) -> None:
        """Empty queues, mailboxes and logs."""
        self.run("postsuper", "-d", "ALL")
        self.run("doveadm", "expunge", "-A", "mailbox", "*", "all")
        for name in ("dovecot.log", "postfix.log"):
            with (self.view / "var/log" / name).open("ab") as file:
                file.truncate(0)

    # ---- the generator ----------------------------------------------------------------------------------------------

    def plan(self, directory: Path, **other: Any) -> LoadPlan:
        """Give a plan with a lot for each of a few people to do."""
        return LoadPlan(
            **{
                "drill": DRILL,
                "address": "127.0.0.1",
                "server_name": NAME,
                "ca": str(self.ca),
                "imap_port": IMAPS,
                "imap_tls": "implicit",
                "smtp_port": SUBMISSION,
                "smtp_tls": "starttls",
                "accounts_file": str(self.accounts_file),
                "directory": str(directory),
                "users": 6,
                "ramp_s": 1,
                "appends": 40.0,
                "fetches": 80.0,
                "submits": 40.0,
                **other,
            }
        )


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Running:
    """One `failoverd drill-load`, and all that it has said so far."""

    def __init__(self, plan: LoadPlan, network: list[str] | None = None) -> None:
        self.directory = Path(plan.directory)
        command = [*(network or []), sys.executable, "-m", "failoverd", "drill-load"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.seconds: list[Second] = []
        self.now: list[LoadNow] = []
        self.done: LoadDone | None = None
        self.longest = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.tell({"plan": json.loads(model.dump(plan))})

    def tell(self, order: dict[str, Any]) -> None:
        """Say a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):  # killed in the middle of it
                return
            self.longest = max(self.longest, len(line))
            [(what, value)] = json.loads(line).items()
            match what:
                case "second":
                    self.seconds.append(model.load(Second, json.dumps(value)))
                case "now":
                    self.now.append(model.load(LoadNow, json.dumps(value)))
                case "done":
                    self.done = model.load(LoadDone, json.dumps(value))

    @property
    def sessions(self) -> int:
        """How many people are logged in, by its newest word."""
        return self.now[-1].sessions if self.now else 0

    def until(self, what: Callable[[], T], *, seconds: float = 20.0, name: str = "") -> T:
        """Wait for something of it."""
        return wait_for(lambda: self._alive() and what(), seconds=seconds, name=name)  # type: ignore[no-any-return]

    def _alive(self) -> bool:
        assert self.process.poll() is None, self.errors()
        return True

    def errors(self) -> str:
        """What it says on stderr, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def ok(self, protocol: str, since_ms: int = 0) -> int:
        """How many operations went well that were meant for seconds from then on."""
        return sum(getattr(second, protocol).ok for second in self.seconds if second.at_ms >= since_ms)

    def stop(self) -> LoadDone:
        """Tell it to end; return its last word."""
        self.tell({"stop": True})
        code = self.process.wait(10)
        self._reader.join(10)
        assert code == 0, self.errors()
        assert self.done is not None
        return self.done

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:  # what it was told last, it was not there to hear
                continue

    def ledger(self) -> list[Acknowledged]:
        """Read what servers took responsibility for."""
        return ledger(self.directory)


def now_ms() -> int:
    """Give CLOCK_REALTIME."""
    return time.time_ns() // 1_000_000


def staged(directory: Path, above: Path, accounts: dict[str, str] | None = None) -> Iterator[Servers]:
    """Start all of it."""
    anchor = subprocess.Popen(
        ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-ec", ENTER, str(above), str(lab_root())]
    )
    servers = Servers(anchor.pid, directory, accounts or dict.fromkeys(ACCOUNTS, PASSWORD))
    try:
        wait_for((servers.view / "entered").exists, name="the namespace")
        servers.configure()
        servers.start()
        try:
            yield servers
        finally:
            servers.stop()
    finally:
        anchor.kill()
        anchor.wait()
