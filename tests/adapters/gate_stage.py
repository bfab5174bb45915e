"""A stage for the gate: a node and the outside world, two network namespaces joined by one wire.

    node    wire0  10.89.1.11/24         outside  wire1  10.89.1.200/24 (a client) and 10.89.1.12/24 (a cluster node)

Sockets belong to the namespace that they were made in, so a thread that enters it makes them for everybody. The gate's
own work runs in one worker thread that stays in the node's, as in the daemon.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
OWN, PEER, CLIENT, VIP = "10.89.1.11", "10.89.1.12", "10.89.1.200", "10.89.1.100"
SERVICE, OTHER = 993, 4000  # a gated port and one that is not
PATIENCE_S = 5.0  # for an answer that must come: a busy machine is late, not closed
SILENCE_S = 0.25  # for one that must not come
CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _new_namespace() -> int:
    made: list[int] = []

    def make() -> None:
        if _LIBC.unshare(CLONE_NEWNET) == 0:
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, "a new network namespace was refused"
    return made[0]


class Place:
    """One namespace, with a worker thread in it."""

    def __init__(self) -> None:
        self._namespace = _new_namespace()
        self._worker = ThreadPoolExecutor(1, initializer=_enter, initargs=(self._namespace,))

    def do(self, call: Callable[[], T]) -> T:
        """Run `call` here and return what it returns."""
        return self._worker.submit(call).result()

    def run(self, *command: str) -> str:
        """Run a program here; what it printed."""
        return self.do(lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def close(self) -> None:
        """End the worker; the namespace goes with its last user."""
        self._worker.shutdown()
        os.close(self._namespace)


class Echo:
    """Echoes whatever comes to one port, on all addresses."""

    def __init__(self, place: Place, port: int) -> None:
        self._socket = place.do(lambda: socket.create_server(("", port)))
        self._accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._accepted.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(64):
                connection.sendall(data)

    def close(self) -> None:
        """Stop listening and end what was accepted."""
        for open_socket in (self._socket, *self._accepted):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()
        self._thread.join(2)


class Stage:
    """Node and outside, with echo servers on the node; closes all that it made."""

    def __init__(self) -> None:
        self.node, self.outside = Place(), Place()
        outside = self.outside.do(lambda: f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net")
        self.node.run("ip", "link", "set", "lo", "up")
        self.outside.run("ip", "link", "set", "lo", "up")
        self.node.run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1", "netns", outside)
        self.node.run("ip", "address", "add", f"{OWN}/24", "dev", "wire0")
        self.outside.run("ip", "address", "add", f"{CLIENT}/24", "dev", "wire1")
        self.outside.run("ip", "address", "add", f"{PEER}/24", "dev", "wire1")
        self.node.run("ip", "link", "set", "wire0", "up")
        self.outside.run("ip", "link", "set", "wire1", "up")
        self._echoes = [Echo(self.node, port) for port in (SERVICE, OTHER)]
        self._streams: list[socket.socket] = []

    def close(self) -> None:
        """End everything."""
        for stream in self._streams:
            stream.close()
        for echo in self._echoes:
            echo.close()
        self.node.close()
        self.outside.close()

    def stream(
        self,
        address: str,
        port: int = SERVICE,
        source: str = CLIENT,
        *,
        place: Place | None = None,
        seconds: float = PATIENCE_S,
    ) -> socket.socket | None:
        """A new connection from outside, None when it was not accepted in time."""

        def connect() -> socket.socket | None:
            made = socket.socket()
            made.settimeout(seconds)
            try:
                made.bind((source, 0))
                made.connect((address, port))
            except OSError:
                made.close()
                return None
            return made

        made = (place or self.outside).do(connect)
        if made is not None:
            self._streams.append(made)
        return made

    def reaches(self, address: str, port: int = SERVICE, source: str = CLIENT, *, seconds: float = PATIENCE_S) -> bool:
        """Whether a new connection is accepted and answers."""
        # who asked while nobody answered would otherwise not ask again for a while
        self.outside.run("ip", "neigh", "flush", "dev", "wire1")
        made = self.stream(address, port, source, seconds=seconds)
        return made is not None and flows(made, seconds)

    def refuses(self, address: str, port: int = SERVICE, source: str = CLIENT) -> bool:
        """Whether a new connection stays without an answer."""
        return not self.reaches(address, port, source, seconds=SILENCE_S)

    def addresses(self) -> str:
        """What the node's interface has."""
        return self.node.run("ip", "-4", "address", "show", "dev", "wire0")


_COUNT = 0


def flows(stream: socket.socket, seconds: float = PATIENCE_S) -> bool:
    """Whether what is sent now comes back now (what was held up before may come with it)."""
    global _COUNT  # noqa: PLW0603 - every question is another one
    _COUNT += 1
    word = f"<{_COUNT}>".encode()
    end = time.monotonic() + seconds
    got = b""
    try:
        stream.sendall(word)
        while word not in got:
            stream.settimeout(max(end - time.monotonic(), 0.001))
            part = stream.recv(4096)
            if not part:
                return False
            got += part
    except OSError:
        return False
    return True


def silent(stream: socket.socket) -> bool:
    """Whether what is sent now stays without an answer."""
    return not flows(stream, SILENCE_S)


def sent_again(stream: socket.socket) -> int:
    """How many segments this connection had to send twice: `tcpi_total_retrans` of tcp(7)'s TCP_INFO."""
    total_retrans_at = 100
    info = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, total_retrans_at + 4)
    return int(struct.unpack_from("=I", info, total_retrans_at)[0])
