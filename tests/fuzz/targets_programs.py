"""What programs and the kernel print: fence agents, nftables, ip, systemctl, mariadb-binlog; and a rebuild's files."""

from __future__ import annotations

import json
import re
import struct
from datetime import datetime
from typing import TYPE_CHECKING, cast

import httpx
from places import place, run, text, written
from target import Target

from failoverd.actions.handon import result_of
from failoverd.actions.mount import mounted_at
from failoverd.ctl import alone_host
from failoverd.ctl.alone_found import UnknownError
from failoverd.fencing.agent import Device, last_line
from failoverd.notify import delivery
from failoverd.probes.disk import reading_of
from failoverd.probes.rebuild import facts_of
from failoverd.probes.vip import VipProbe
from failoverd.process import Ended
from failoverd.rebuild import RebuildError, ahead, binlog, private, protocol
from failoverd.rebuild.journal import Entry, Journal
from failoverd.rebuild_files import FILE, newest
from failoverd.refusals import Refusals
from failoverd.refusals_spool import Told
from failoverd.runtime import persist

if TYPE_CHECKING:
    import socket

NOW = datetime(2026, 11, 29, 12)  # noqa: DTZ001 - as nftables shows it
SECRET = "geheim-fuzz"
DEVICE = Device("fence_x", {"ip": "10.0.0.1"}, {"passwd": SECRET})


def _agent(data: bytes) -> object:
    """What an agent prints, whole and cut, with its password somewhere in it."""
    for cut in (False, True):
        for output in (data, data + SECRET.encode(), SECRET.encode() + data, SECRET.encode()[3:] + data):
            words = DEVICE.words(Ended(1, output, cut))
            assert SECRET not in words, "the password is told"
            last = last_line(words)
            assert last.isprintable(), last
            assert len(last) <= 200
    return None


GATE = """table inet failoverd {
\tset lease {
\t\ttype ipv4_addr
\t\tflags timeout
\t\telements = { 10.0.0.100 timeout 2s500ms expires 1s980ms }
\t}

\tset members {
\t\ttype ipv4_addr
\t}

\tchain gate {
\t\tip saddr @members accept
\t\tmeta time < "2026-11-29 12:00:03" ip daddr @lease accept
\t\tdrop
\t}
}
"""
ADDRESS = [{"ifname": "host0", "addr_info": [{"local": "10.0.0.100", "valid_life_time": 3}]}, {}]
SHOWN = """Id=failoverd.service
LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
ExecMainCode=1
ExecMainStatus=78
NRestarts=3
StateChangeTimestampMonotonic=12345678
"""


def _alone_files(data: bytes) -> object:
    """The lease, the term and the audit as failoverctl looks at them where no daemon answers."""
    where = place("alone")
    for name in ("lease", "term", "audit.jsonl"):
        (where / name).write_bytes(data)
    found = []
    for look in (alone_host.lease, alone_host.term, alone_host.audit):
        try:
            found.append(look(where))
        except UnknownError:
            continue
    return found


def _own_state(data: bytes) -> object:
    """The term and the lease as a daemon reads them at its start."""
    where = place("state")
    for name in ("lease", "term"):
        (where / name).write_bytes(data)
    persist.LeaseFile(where, "b").noted()
    memory = persist.TermFile(where)
    memory.keep(memory.memory)
    return memory.memory


def _own_state_made() -> list[bytes]:
    from failoverd.core.lease import Held, Memory  # noqa: PLC0415 - for these two lines

    where = place("state-made")
    persist.TermFile(where).keep(Memory(term=7))
    persist.LeaseFile(where, "b", 1000).write(Held(7, 12, 99))
    return [(where / "term").read_bytes(), (where / "lease").read_bytes()]


def _rebuild_files(data: bytes) -> object:
    """What a rebuild and the daemon leave for each other."""
    where = place("rebuild")
    for name in (FILE, "journal.json", "ended.json"):
        (where / name).write_bytes(data)
    journal = Journal(where)
    journal.ended("a1")
    try:
        told = newest(where)
    except ValueError:
        told = {}
    facts_of(told, running=True)
    entry = journal.read()
    if entry is not None:
        journal.write(entry)
        assert journal.read() == entry
    return entry


def _rebuild_made() -> list[bytes]:
    where = place("rebuild-made")
    from failoverd.rebuild.journal import Stage  # noqa: PLC0415 - for this line

    Journal(where).write(Entry(Stage.PREPARED, donor="mail3", position="0-1-500", ahead=("/x",), request="a1"))
    told = {"request": "a1", "stage": "receive", "bytes": 3, "of": 9, "rate": 1, "left_s": 5, "ahead": ["/x"]}
    return [(where / "journal.json").read_bytes(), json.dumps(told).encode()]


def _binlog(data: bytes) -> object:
    """A binary log, and as a relay log."""
    where = place("binlog")
    (where / "log.index").write_text(f"{where}/log.000001\n")
    (where / "log.000001").write_bytes(data)
    list(binlog.received(where / "log.index"))
    found = ahead.find(where / "log.index", ahead.covered_by("0-1-3"))
    return str(found.gtids)


def _event(position: int, kind: int, payload: bytes, server: int = 1) -> bytes:
    length = binlog._HEADER.size + len(payload)
    return binlog._HEADER.pack(0, kind, server, length, position + length, 0) + payload


def _binlog_made() -> list[bytes]:
    data = bytearray(binlog.MAGIC)
    for number in (1, 2, 5):
        data += _event(len(data), binlog.GTID, binlog._GTID.pack(number, 0, 0) + b"\0" * 6)
        data += _event(len(data), min(binlog._ENDS), b"\0" * 8)
    return [bytes(data)]


def _backup(data: bytes) -> object:
    """What mariadb-backup has left of positions, and a server's own words around it."""
    where = place("backup")
    for name in private.INFO:
        (where / name).write_bytes(data)
    position = private.position(where)
    before = text(data).partition("\n")[0]
    return private.state(position, before if protocol.POSITION.fullmatch(before) else "", position)


def _webhook(data: bytes) -> object:
    """An HTTP answer of a webhook: its status and headers. The rest is not read."""
    line, _, rest = data.partition(b"\n")
    status = int(line[:3]) if line[:3].isdigit() and 100 <= int(line[:3]) < 600 else 503
    headers = [
        (name.strip(), value.strip())
        for name, colon, value in (header.partition(b":") for header in rest.split(b"\n"))
        if colon and name.strip()
    ]

    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers)

    async def posted() -> object:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
            return await delivery.post(client, f"https://h.example.test/{SECRET}", b"{}", "n", 5.0)

    attempt = run(posted())
    assert SECRET not in repr(attempt), "the URL is told"
    return attempt


MOUNTS = (
    "36 35 98:0 / /srv/mail rw,noatime master:1 - ext4 /dev/vdb rw,errors=continue\n"
    "37 35 0:40 / /srv/mail\\040two rw shared:2 - nfs4 192.0.2.20:/mail rw\n"
)


def _mounts(data: bytes) -> object:
    """Its lines are the kernel's; what stands in their fields is who mounted's."""
    fields = text(data).replace(" ", "").replace("\n", "").split(",")
    a, b, c, *_ = [*fields, "", "", ""]
    return mounted_at("/srv/mail", MOUNTS + f"38 35 0:41 / {a or '/'} rw - {b or 'x'} {c or 'y'} rw\n")


def _refusals(data: bytes) -> object:
    """What a donor or a drill agent tells of those whom it has turned away."""
    refusals = Refusals()
    Told(written("refused.json", data), refusals).read()
    return refusals.totals()


REFUSED = {"run": "r1", "kinds": [{"port": "donor", "code": "PEER_STRANGER", "source": "10.0.0.9", "reason": "x",
           "node": "", "total": 3}]}  # fmt: skip

# ---- the wire -------------------------------------------------------------------------------------------------------


class _Wire:
    """A socket that has one frame."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def recv(self, size: int) -> bytes:
        """As a packet socket's."""
        return self._frame[:size]


def _claims(data: bytes) -> object:
    """What is said on the wire about the virtual IP, by whomever: only hardware addresses come of it."""
    found: set[str] = set()
    VipProbe(interface="eth0", address="192.0.2.100")._receive(cast("socket.socket", _Wire(data)), found)
    assert all(re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", one) for one in found), found
    return found


_VIP = bytes([192, 0, 2, 100])
_ARP_ANSWER = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, b"\2abcde", _VIP, b"\2fghij", b"\0" * 4)

TARGETS = [
    Target("arp-frames", "ARP of anybody on the wire", _claims, lambda: [_ARP_ANSWER, _ARP_ANSWER + b"\0" * 18]),
    Target("refusals-file", "what other programs tell of refusals", _refusals, lambda: [json.dumps(REFUSED).encode()]),
    Target("fence-agent", "what a fence agent prints", _agent, lambda: [b"Status: ON\n", b"Failed\nERROR: y\n\x1b[0m"]),
    Target(
        "nft-gate",
        "the gate as nftables lists it",
        lambda data: alone_host._gate(text(data), NOW),
        lambda: [GATE.encode()],
        (UnknownError,),
    ),
    Target(
        "ip-address",
        "what `ip -json address` prints",
        lambda data: alone_host.addresses(text(data), "10.0.0.100"),
        lambda: [json.dumps(ADDRESS).encode()],
        (UnknownError,),
    ),
    Target(
        "systemctl-show",
        "what `systemctl show` prints",
        lambda data: alone_host.shown_units(text(data), ["failoverd.service"]),
        lambda: [SHOWN.encode(), b"Id=x\nLoadState=not-found\n"],
        (UnknownError,),
    ),
    Target("alone-files", "a node's own files, without its daemon", _alone_files, _own_state_made),
    Target("own-state", "a node's own files, at a daemon's start", _own_state, _own_state_made, (persist.StateError,)),
    Target("rebuild-files", "a rebuild's own files", _rebuild_files, _rebuild_made, (RebuildError,)),
    Target("binlog", "a binary log", _binlog, _binlog_made, (RebuildError,)),
    Target(
        "backup-position",
        "the positions that a backup comes with",
        _backup,
        lambda: [b"log.000001\t345\t0-1-500,0-2-\n510\n"],
        (RebuildError,),
    ),
    Target(
        "webhook-answer",
        "what a webhook answers",
        _webhook,
        lambda: [
            b"503\nretry-after: 30\n",
            b"429\nretry-after: Sun, 29 Nov 2026 10:00:00 GMT\n",
            b"308\nlocation: /x\n",
            b"307\nlocation: http://other.test:80/\n",
            b"200\ncontent-type: text/html\n",
        ],
    ),
    Target(
        "hand-on-answer",
        "what the program prints that hands the queue on",
        lambda data: result_of(text(data).splitlines()),
        lambda: [b'warning\n{"outcome": "succeeded", "code": "", "reason": "1 handed on"}\n'],
    ),
    Target("mounts", "the kernel's list of mounts", _mounts, lambda: [b"/srv/mail,nfs4,192.0.2.20:/mail"]),
    Target("disk-writer", "what the process says that writes to a disk", lambda d: reading_of("/x", text(d)),
           lambda: [b"ok", b"busy", b"error 28"]),
]  # fmt: skip
