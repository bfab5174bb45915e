"""A power switch beside the hosts, as a rack has one: on their wire, and not one of them.

    fence_lab on a host ──10.89.1.1:7499── PASSWORD off mail1 ──> lab.kill(mail1) ── `off`, once nothing of it lives

It answers truthfully, unless a test lets it fail: what it says of a host is what the host's processes say. Its address
is the bridge's own, in the lab's network namespace, and goes with it.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from . import layout, network
from .shell import LabError, run

if TYPE_CHECKING:
    from types import TracebackType

    from .lab import Lab

ADDRESS = "10.89.1.1"
PORT = 7499
PASSWORD = "power-lab-password"
SECRET = "/etc/failoverd/secrets/power"  # the name of a file


def fencing(*, timeout: str = "10s", required: bool = False, agents: bool = True) -> str:
    """Give the section of the configuration: three data nodes, each with its plug of the one switch."""
    lines = ["fencing:", f"  required: {str(required).lower()}", f"  timeout: {timeout}"]
    if agents:
        lines.append("  nodes:")
        for host in layout.DATA_NODES:
            options = f"{{ip: {ADDRESS}, ipport: {PORT}, plug: {host}}}"
            lines.append(f"    {host}: [[{{agent: fence_lab, options: {options}, secrets: {{passwd: {SECRET}}}}}]]")
    return "\n".join(lines) + "\n"


class PowerSwitch:
    """Serves from `with` to its end. `fails`: it refuses everything; `hangs`: it takes requests and answers none."""

    def __init__(self, lab: Lab, *, fails: bool = False, hangs: bool = False) -> None:
        self._lab = lab
        self._fails, self._hangs = fails, hangs
        self._lock = threading.Lock()
        self._asked: list[tuple[str, str]] = []
        self._ended = threading.Event()

    @property
    def asked(self) -> list[tuple[str, str]]:
        """(action, host) of all requests so far."""
        with self._lock:
            return list(self._asked)

    def __enter__(self) -> Self:
        run("ip", "-n", layout.BRIDGE_NETNS, "address", "replace", f"{ADDRESS}/{layout.PREFIX}", "dev", layout.BRIDGE)
        with network.namespace(network.BRIDGE_NS):
            self._listener = socket.create_server((ADDRESS, PORT))
        threading.Thread(target=self._serve, name="power switch", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        run(
            *("ip", "-n", layout.BRIDGE_NETNS, "address", "delete", f"{ADDRESS}/{layout.PREFIX}"),
            *("dev", layout.BRIDGE),
            check=False,
        )

    def _serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                wire, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(wire,), name="power switch request", daemon=True).start()

    def _talk(self, wire: socket.socket) -> None:
        with wire, suppress(OSError), wire.makefile("rw", encoding="utf-8") as talk:
            password, action, host = talk.readline().split()
            with self._lock:
                self._asked.append((action, host))
            if self._hangs:
                self._ended.wait()
                return
            answer = "login denied" if password != PASSWORD else "device broken" if self._fails else None
            talk.write(f"{answer or self._done(action, host)}\n")

    def _done(self, action: str, host: str) -> str:
        """Do it, and say how the host is then: off only when its first process is gone."""
        try:
            if action == "off" and self._lab.pid(host) is not None:
                self._lab.kill(host)
            elif action == "on" and self._lab.pid(host) is None:
                self._lab.boot(host, wait=False)
            return "off" if self._lab.pid(host) is None else "on"
        except LabError as error:
            return f"error: {error}".replace("\n", " ")
