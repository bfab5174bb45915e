"""The probes: one file each, one line in PROBES, and the meaning of every code they give.

deadline   the harness: an observation in time, whatever the probe does
link       a TCP connection that can be aborted and says what is wrong   <── imap, smtp
aside      a blocking call beside the loop                               <── database, settings, host
disk       a write, in a process of its own that may hang                (disk_writer)
unit, vip  D-Bus; netlink and ARP
queue      the mail queue's directories                            <── a count, aside
fence      the fence agents that another node's failure may need
store      a mail store that moves with the role
rebuild    what a rebuild of this node's database tells, two files in memory

Advisory, and never a reason to move the role (core/monitoring.py):

latency    how long imap and smtp take, of the looks that are taken anyway
logins     logins and deliveries in the journal                    (journal: the lines, maillog: what they say)
sessions   who is logged in to IMAP, as doveadm says
processes  Postfix's share of a core, memory that only grows
statements slow statements of the database
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.probes.database import DatabaseProbe
from failoverd.probes.disk import DiskProbe
from failoverd.probes.fence import FenceProbe
from failoverd.probes.host import HostProbe
from failoverd.probes.imap import ImapProbe
from failoverd.probes.latency import LatencyProbe
from failoverd.probes.logins import LoginsProbe
from failoverd.probes.processes import ProcessesProbe
from failoverd.probes.queue import QueueProbe
from failoverd.probes.rebuild import RebuildProbe
from failoverd.probes.sessions import SessionsProbe
from failoverd.probes.settings import SettingsProbe
from failoverd.probes.smtp import SmtpProbe
from failoverd.probes.statements import StatementsProbe
from failoverd.probes.store import StoreProbe
from failoverd.probes.unit import UnitProbe
from failoverd.probes.vip import VipProbe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from failoverd.ports import Probe

# By the name in the configuration (`unit` is shown as unit:NAME, `disk` as disk:PATH, `fence` as fence:NODE).
PROBES: Mapping[str, Callable[..., Probe]] = {
    "imap": ImapProbe,
    "smtp": SmtpProbe,
    "unit": UnitProbe,
    "database": DatabaseProbe,
    "settings": SettingsProbe,
    "vip": VipProbe,
    "host": HostProbe,
    "disk": DiskProbe,
    "fence": FenceProbe,
    "queue": QueueProbe,
    "store": StoreProbe,
    "rebuild": RebuildProbe,
    "latency": LatencyProbe,
    "logins": LoginsProbe,
    "sessions": SessionsProbe,
    "processes": ProcessesProbe,
    "statements": StatementsProbe,
}

# Every code that a probe can give; those of the database's own reading are the dialect's, those
# of monitoring (MON_…) stand in core/findings.py. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    # the IMAP server
    "IMAP_REFUSED": "nothing listens on the port",
    "IMAP_UNREACHABLE": "the network says that there is no way to the server",
    "IMAP_TIMEOUT_CONNECT": "the connection was not accepted in time",
    "IMAP_NO_GREETING": "the connection was accepted, then came no (whole) greeting or no TLS answer",
    "IMAP_NOT_READY": "the server greeted with BYE",
    "IMAP_TLS_ON_PLAIN": "a TLS server answers where plain text is configured",
    "IMAP_PLAIN_ON_TLS": "a plain-text server answers where TLS is configured",
    "IMAP_CERT_EXPIRED": "the server's certificate is expired or not valid yet",
    "IMAP_CERT_NAME": "the server's certificate is for another name",
    "IMAP_CERT_UNTRUSTED": "the server's certificate is not from the configured CA",
    "IMAP_NO_STARTTLS": "the server refuses STARTTLS",
    "IMAP_TIMEOUT_TLS": "STARTTLS was not finished in time",
    "IMAP_TLS_FAILED": "the TLS handshake failed for another reason",
    "IMAP_TIMEOUT_LOGIN": "the login was not answered in time",
    "IMAP_LOGIN_REFUSED": "the login was refused, for good or for now",
    "IMAP_TIMEOUT_SELECT": "logged in, but the mailbox did not open in time",
    "IMAP_SELECT_FAILED": "logged in, but the mailbox does not open",
    "IMAP_CLOSED": "the server closed the connection in the middle",
    "IMAP_GARBAGE": "the server sent what is no IMAP, or no end of it",
    # the SMTP server
    "SMTP_REFUSED": "nothing listens on the port",
    "SMTP_UNREACHABLE": "the network says that there is no way to the server",
    "SMTP_TIMEOUT_CONNECT": "the connection was not accepted in time",
    "SMTP_NO_GREETING": "the connection was accepted, then came no (whole) greeting or no TLS answer",
    "SMTP_NOT_READY": "the server greeted with 421, 554 or the like",
    "SMTP_TLS_ON_PLAIN": "a TLS server answers where plain text is configured",
    "SMTP_PLAIN_ON_TLS": "a plain-text server answers where TLS is configured",
    "SMTP_CERT_EXPIRED": "the server's certificate is expired or not valid yet",
    "SMTP_CERT_NAME": "the server's certificate is for another name",
    "SMTP_CERT_UNTRUSTED": "the server's certificate is not from the configured CA",
    "SMTP_NO_STARTTLS": "the server refuses STARTTLS",
    "SMTP_TIMEOUT_TLS": "STARTTLS was not finished in time",
    "SMTP_TLS_FAILED": "the TLS handshake failed for another reason",
    "SMTP_TIMEOUT_EHLO": "EHLO was not answered in time",
    "SMTP_EHLO_REFUSED": "EHLO was refused",
    "SMTP_TIMEOUT_MAIL": "MAIL FROM was not answered in time",
    "SMTP_MAIL_REFUSED": "MAIL FROM:<> was refused",
    "SMTP_TIMEOUT_RCPT": "RCPT TO the canary was not answered in time",
    "SMTP_RCPT_DEFERRED": "the server cannot take mail for the canary now (4xx): often its SQL maps",
    "SMTP_RCPT_REFUSED": "the server does not take mail for the canary (5xx)",
    "SMTP_CLOSED": "the server closed the connection in the middle",
    "SMTP_GARBAGE": "the server sent what is no SMTP, or no end of it",
    # this node's units, virtual IP, database and resources
    "UNIT_NOT_ACTIVE": "the systemd unit is not active and running",
    "UNIT_UNKNOWN": "systemd knows no such unit",
    "UNIT_BUS_LOST": "systemd could not be asked over D-Bus",
    "VIP_DUPLICATE": "more than one machine answers for the virtual IP",
    "VIP_NO_INTERFACE": "the interface of the virtual IP is missing or down",
    "VIP_CANNOT_LOOK": "the interface could not be looked at",
    "DB_HUNG": "the database was asked and has not answered",
    "DISK_FULL": "too little free space, or too few free inodes",
    "DISK_HUNG": "a file system does not answer, or does not take a write",
    "DISK_READ_ONLY": "a file system is mounted read-only",
    "DISK_IO": "a file system answers with an error",
    "DISK_UNREADABLE": "a configured path cannot be looked at",
    "STORE_HUNG": "the mail store could not be looked at in time",
    "MEMORY_LOW": "too little memory is available",
    "LOAD_HIGH": "the load per core is too high",
    "REBUILD_UNSEEN": "how far a rebuild is cannot be read",
    # the probes themselves: nothing is known about what they look at
    "PROBE_NO_ROUTE": "this node has no way to the target",
    "PROBE_EXHAUSTED": "this node has run out of sockets, threads or memory",
    "PROBE_STARVED": "this node itself was not running for a part of the deadline",
    "PROBE_BUG": "the probe raised, or did not end",
}
