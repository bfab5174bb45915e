"""Watch the data hosts from outside and say how long two of them were primary at once.

The hosts are not asked through anything that failoverd has a hand in. Every 20 ms, for each data host:

- `vip`: its kernel has the virtual IP (/proc/PID1/net/fib_trie). A frozen host's kernel still has it; a dead one not.
- `reachable`: its kernel would let a client in. A bare SYN to each service port of the virtual IP goes on the wire, to
  this host's own hardware address, as if the client's ARP table named it: only an answering SYN counts. So link,
  virtual IP, gate and listener are tried at once, for each host separately, and no service ever sees a connection (the
  client's kernel resets it before it is one). The virtual IP is never asked for by ARP: an answer would refresh the
  client's table and hide a missing announcement.
- `writable`: its database says @@read_only = 0, over its own socket, as root by Unix identity. A frozen server cannot
  answer and cannot serve: after 250 ms without an answer it counts as not writable, until it answers again. One that
  was sent SIGKILL runs no further instruction of its own, also where a hung disk keeps it from being gone: it counts as
  not writable at once.

Transitions are written as JSON lines `at host what value` (`at` is CLOCK_MONOTONIC in ms; `reachable` has the open
ports as value), then a summary. Two at once in the same sample is what counts, and what falls between two samples is
missed: `blind_max_ms` is the longest time between two.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import itertools
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from client import mysql
from client.wire import ProtocolError, Wire
from hosts import containers, layout, network

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY_S = 0.02
SQL_EVERY_S = 0.025
SQL_TIMEOUT_S = 0.25
PORTS = (25, 993, 3306)
WHATS = ("vip", "writable", "reachable")

_FIRST_SOURCE_PORT = 0xFC00  # 64512 and up: where no program of the client host gets a port by itself
_SOURCE_PORTS = 0x400
_VIP_IN_TRIE = f"|-- {layout.VIP}\n".encode()
_ETH_IP, _ETH_ARP = 0x0800, 0x0806


class Host:
    """What was last seen of one data host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid: int | None = None
        self.vip = False
        self.writable = False
        self._server: int | None = None  # the process of the database that was asked last
        self.mac: bytes | None = None
        self.shown: dict[str, object] = {"vip": False, "writable": False, "reachable": []}

    def look_at_address(self) -> None:
        """Read whether the host's kernel has the virtual IP; find the host anew when it is gone."""
        if self.pid is not None:
            try:
                self.vip = _VIP_IN_TRIE in Path(f"/proc/{self.pid}/net/fib_trie").read_bytes()
            except OSError:
                self.pid = None
        if self.pid is None:
            self.vip = False

    def look_at_server(self) -> None:
        """See whether the database that was asked last has been killed since."""
        if self._server is not None and is_killed(self._server):
            self.writable, self._server = False, None

    async def follow_process(self) -> None:
        """Keep knowing the host's first process across power cuts."""
        while True:
            if self.pid is None:
                self.pid = containers.pid(self.name)
            await asyncio.sleep(0.1)

    async def follow_database(self) -> None:
        """Keep asking the host's database whether it can be written, over one connection while that holds."""
        while True:
            if self.pid is not None:
                with contextlib.suppress(OSError, ProtocolError, TimeoutError):
                    await self._ask_until_silent(f"/proc/{self.pid}/root/run/mysqld/mysqld.sock")
            self.writable = False
            await asyncio.sleep(SQL_EVERY_S)

    async def _ask_until_silent(self, path: str) -> None:
        wire = Wire.unix()
        try:
            async with asyncio.timeout(1):
                await wire.connect(path)
                await mysql.log_in(wire, "root")
            self._server = wire.listener()
            while self._server is not None:
                async with asyncio.timeout(SQL_TIMEOUT_S):
                    writable = await mysql.run(wire, "SELECT @@read_only") == [["0"]]
                self.writable = writable and self._server is not None
                await asyncio.sleep(SQL_EVERY_S)
        finally:
            self._server = None
            wire.bid_farewell(mysql.QUIT)


def is_killed(pid: int) -> bool:
    """Whether SIGKILL is under way to every thread of the process, or it is gone: it runs nothing any more."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    words = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    pending = int(words.get("SigPnd", "0"), 16) | int(words.get("ShdPnd", "0"), 16)
    return words["State"].strip()[0] in "ZX" or bool(pending & 1 << signal.SIGKILL - 1)


class Knocker:
    """Sends SYNs from the client host to chosen hardware addresses, and hears who answers."""

    def __init__(self) -> None:
        with network.namespace(network.CLIENT_NS):
            self._ip, self._arp = _packet_socket(_ETH_IP), _packet_socket(_ETH_ARP)
        _filter(self._ip)
        self._mac = self._ip.getsockname()[4]
        self._source = _FIRST_SOURCE_PORT

    def next_round(self) -> None:
        """Use another source port, so that a late answer to an earlier SYN is told apart."""
        self._source = _FIRST_SOURCE_PORT + (self._source + 1 - _FIRST_SOURCE_PORT) % _SOURCE_PORTS

    def knock(self, mac: bytes) -> None:
        """Send a SYN for each service port of the virtual IP to this hardware address."""
        for port in PORTS:
            with contextlib.suppress(OSError):
                self._ip.send(mac + self._mac + _syn(self._source, port))

    def answers(self) -> Iterable[tuple[bytes, int]]:
        """Give (hardware address, service port) of the SYNs of this round that were accepted."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self._ip.recv(128)
                port, source = struct.unpack_from("!HH", frame, 34)
                if source == self._source and frame[47] & 0x12 == 0x12:  # SYN and ACK
                    yield frame[6:12], port

    def ask(self, address: str) -> None:
        """Ask who has a host's own address."""
        question = struct.pack(
            "!6s6sH HHBBH6s4s6s4s",
            b"\xff" * 6,
            self._mac,
            _ETH_ARP,
            1,
            _ETH_IP,
            6,
            4,
            1,
            self._mac,
            socket.inet_aton(layout.CLIENT),
            bytes(6),
            socket.inet_aton(address),
        )
        with contextlib.suppress(OSError):
            self._arp.send(question)

    def owners(self) -> Iterable[tuple[str, bytes]]:
        """Give (address, hardware address) of those that answered by ARP."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self._arp.recv(128)
                if frame[20:22] == b"\0\2":
                    yield socket.inet_ntoa(frame[28:32]), frame[22:28]


class Referee:
    """Samples, writes transitions, adds up the time of two at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._hosts = [Host(name) for name in layout.DATA_NODES]
        self._knocker = Knocker()
        self._two_ms = dict.fromkeys(WHATS, 0.0)
        self._blind_max_ms = 0.0
        self._samples = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Sample until told to stop."""
        tasks = [
            asyncio.create_task(work)
            for host in self._hosts
            for work in (host.follow_process(), host.follow_database())
        ]
        began = before = time.monotonic()
        for number in itertools.count(1):
            if stop.is_set() or any(task.done() for task in tasks):
                break
            await asyncio.sleep(max(0.0, began + number * EVERY_S - time.monotonic()))
            now = time.monotonic()
            if number > 1:
                self._blind_max_ms = max(self._blind_max_ms, (now - before) * 1000)
            self._sample(now, now - before)
            before = now
            if number % 5 == 0:
                self._out.flush()
        for task in tasks:
            if task.done():
                task.result()  # a bug in the referee is no verdict
            task.cancel()
        self._write(self._summary(time.monotonic() - began))
        self._out.flush()

    def _sample(self, now: float, passed_s: float) -> None:
        answers = set(self._knocker.answers())
        owners = dict(self._knocker.owners())
        for host in self._hosts:
            host.look_at_address()
            host.look_at_server()
            host.mac = owners.get(layout.ADDRESSES[host.name], host.mac)
            self._note(now, host, "vip", host.vip)
            self._note(now, host, "writable", host.writable)
            self._note(now, host, "reachable", sorted(port for mac, port in answers if mac == host.mac))
        for what in WHATS:
            if sum(bool(host.shown[what]) for host in self._hosts) > 1:
                self._two_ms[what] += passed_s * 1000
        self._samples += 1
        self._knocker.next_round()
        for host in self._hosts:
            if host.mac is not None:
                self._knocker.knock(host.mac)
            elif self._samples % 10 == 1:
                self._knocker.ask(layout.ADDRESSES[host.name])

    def _note(self, now: float, host: Host, what: str, value: object) -> None:
        if host.shown[what] != value:
            host.shown[what] = value
            self._write({"at": round(now * 1000, 1), "host": host.name, "what": what, "value": value})

    def _write(self, line: dict[str, object]) -> None:
        self._out.write(json.dumps(line, separators=(",", ":")) + "\n")

    def _summary(self, seconds: float) -> dict[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "summary": {f"two_{what}_ms": round(self._two_ms[what], 1) for what in WHATS},
            "seconds": round(seconds, 2),
            "samples": self._samples,
            "blind_max_ms": round(self._blind_max_ms, 1),
            "cpu_percent": round((usage.ru_utime + usage.ru_stime) / seconds * 100, 1),
        }


def overlap_ms(transitions: Iterable[dict[str, object]], what: str, since: float, until: float) -> float:
    """Add up how long two or more hosts had `what` at once within [since, until], from the referee's lines."""
    having: set[object] = set()
    total, at = 0.0, since
    for line in transitions:
        if line.get("what") != what:
            continue
        moment = float(str(line["at"]))
        if len(having) > 1 and moment > at:
            total += min(moment, until) - at if at < until else 0.0
        at = max(at, moment)
        (having.add if line["value"] else having.discard)(line["host"])
    return total + (max(0.0, until - at) if len(having) > 1 else 0.0)


def _syn(source: int, port: int) -> bytes:
    """Build the frame's type, IP and TCP headers of a SYN from the client to the virtual IP."""
    tcp = _TCP.pack(source, port, 0, 0, 5 << 4, 2, 64240, 0, 0)
    tcp = _TCP.pack(source, port, 0, 0, 5 << 4, 2, 64240, _checksum(_PSEUDO + tcp), 0)
    return _IP_HEADER + tcp


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _ip_header() -> bytes:
    addresses = socket.inet_aton(layout.CLIENT) + socket.inet_aton(layout.VIP)
    blank = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, socket.IPPROTO_TCP, 0) + addresses
    return struct.pack("!H", _ETH_IP) + blank[:10] + struct.pack("!H", _checksum(blank)) + blank[12:]


_TCP = struct.Struct("!HHIIBBHHH")
_IP_HEADER = _ip_header()
_PSEUDO = _IP_HEADER[14:] + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20)


def _packet_socket(kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
    sock.setblocking(False)  # its parameter has no name
    sock.bind(("eth0", kind))
    return sock


def _filter(sock: socket.socket) -> None:
    """Let the kernel hand over TCP to our source ports only: the client's own traffic must not cost the referee time.

    Classic BPF: (code, jump if true, jump if false, constant).
    """
    program = [
        (0x30, 0, 0, 23),  # load the IP protocol
        (0x15, 0, 4, socket.IPPROTO_TCP),  # another one: drop
        (0x28, 0, 0, 36),  # load the destination port
        (0x54, 0, 0, 0x10000 - _SOURCE_PORTS),
        (0x15, 0, 1, _FIRST_SOURCE_PORT),  # not ours: drop
        (0x06, 0, 0, 128),
        (0x06, 0, 0, 0),
    ]
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)
    sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))


async def _main(path: Path) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    with path.open("w") as out:
        await Referee(out).run(stop)


def main() -> None:
    """Read the command line and watch."""
    parser = argparse.ArgumentParser(prog="referee", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    arguments = parser.parse_args()
    with contextlib.suppress(OSError):
        os.nice(-10)
    gc.freeze()
    asyncio.run(_main(arguments.out))


if __name__ == "__main__":
    main()
