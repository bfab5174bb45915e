"""Receivers of alerts on loopback that do as they are told, and one node's telling with its disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from failoverd.config import load
from failoverd.config.alerts import AlertQueue, Alerts, Heartbeat, Receiver
from failoverd.core.alerts import Alert, Look
from failoverd.core.findings import Severity
from failoverd.core.model import Node, NodeKind, NodeName
from failoverd.notify.herald import Herald, State
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.core.model import Observation

WITHIN_S = 40.0
ADDRESSES = {"mail1": "127.0.7.11", "mail2": "127.0.7.12", "mail3": "127.0.7.13", "arbiter": "127.0.7.14"}
LAG = Alert(
    "LAG_WARN", "mail2", Severity.WARNS, "1000 ms behind mail1", "it is behind", "look", "runbooks/codes/LAG.md"
)
DISK = Alert("DISK_FULL", "mail3", Severity.BLOCKS, "/ is full", "no space", "make room", "runbooks/codes/DISK_FULL.md")
LOST = Alert("BLK_STORE", "arbiter", Severity.BLOCKS, "no answer", "silent", "bring it back", "runbooks/codes/X.md")
PEACE = Look(node="arbiter", term=7, holder="mail1", lease="held", serving=frozenset({"mail1"}), has_vip=("mail1",))
SECRET = "s3cr3t-token"


def until(true: Callable[[], object], what: str = "") -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, what or "it did not come true"
        time.sleep(0.01)


@dataclass
class Request:
    """One request that a receiver got: when, where, and the body."""

    at: float
    path: str
    headers: dict[str, str]
    body: Any
    status: int


@dataclass
class Answer:
    """What a receiver says. `drip_s`: a byte of the head at a time. `silent`: nothing at all, for so long."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    silent_s: float = 0.0


class Sink:
    """A real HTTP server. `answers` are given in turn, then `always`."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.always = Answer()
        self.ended = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sink._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.allow_reuse_address = True
        self._server.server_bind()
        self._server.server_activate()
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "https" if tls is not None else "http"
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """With a secret in it, as Slack's have."""
        return f"{self.scheme}://127.0.0.1:{self.port}/hook/{SECRET}"

    @property
    def taken(self) -> list[Any]:
        """The bodies that were answered with success, in order."""
        return [request.body for request in self.requests if 200 <= request.status < 300]

    @property
    def told(self) -> list[tuple[str, str]]:
        """(status, code) of each plain JSON body taken."""
        return [(body["status"], body["code"]) for body in self.taken]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        answer = self.answers.pop(0) if self.answers else self.always
        if answer.silent_s and self.ended.wait(answer.silent_s):
            return
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(Request(time.monotonic(), handler.path, headers, body, answer.status))
        head = f"HTTP/1.1 {answer.status} as told\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        with contextlib.suppress(OSError):
            for byte in (head + "content-length: 0\r\n\r\n").encode():
                handler.wfile.write(bytes([byte]))
                if answer.drip_s and self.ended.wait(answer.drip_s):
                    return


def receiver(name: str, url: str, kind: str = "json", **more: Any) -> Receiver:
    """A receiver as the configuration gives it, without its files."""
    from pydantic import SecretStr  # noqa: PLC0415 - only here

    given = {"name": name, "kind": kind, "url": SecretStr(url), "timeout_ms": 1000, "min_severity": "warns"}
    return Receiver.model_construct(**{"headers": (), "ca": None, **given, **more})


def configured(
    path: Path, directory: Path, *receivers: Receiver, node: str = "arbiter", port: int = 1, **more: Any
) -> Config:
    """A configuration whose nodes live on loopback, with these receivers and a short patience."""
    heartbeat = more.pop("heartbeat_ms", None)
    alerts = Alerts.model_construct(
        **{
            "repeat_ms": None,
            "settle_ms": 50,
            "queue": AlertQueue.model_construct(directory=directory, limit=more.pop("limit", 1000)),
            "receivers": receivers,
            "heartbeat": Heartbeat.model_construct(receiver=receivers[0].name, interval_ms=heartbeat)
            if heartbeat
            else None,
            **more,
        }
    )
    config = load(path, node)
    config = config.model_copy(update={"alerts": alerts, "peer": config.peer.model_copy(update={"port": port})})
    config.__dict__["nodes"] = {
        NodeName(name): Node(NodeName(name), NodeKind.ARBITER if name == "arbiter" else NodeKind.DATA, address)
        for name, address in ADDRESSES.items()
    }
    return config


class Telling:
    """One node's telling, and what it has found to be wrong with it."""

    def __init__(self, config: Config, ssl_context: ssl.SSLContext) -> None:
        self.found: dict[str, str] = {}
        self.herald = Herald(config, ssl_context, BootClock(), self._observed, pause_s=0.05)
        self.look = PEACE
        self._stop = threading.Event()
        self.heard: frozenset[str] = frozenset()
        self._feeder = threading.Thread(target=self._feed)

    def __enter__(self) -> Self:
        self.herald.start()
        self._feeder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._feeder.join()
        asyncio.run(self.herald.stop())
        assert not self.herald._thread.is_alive()

    def _feed(self) -> None:
        while not self._stop.wait(0.05):
            self.herald.look(self.look, self.heard)

    def _observed(self, observation: Observation) -> None:
        self.found[observation.probe] = f"{observation.reading.code}: {observation.reading.reason}"

    def stands(self, *alerts: Alert) -> None:
        """These stand from now on."""
        self.look = Look(
            node="arbiter", term=7, holder="mail1", lease="held", serving=frozenset({"mail1"}), findings=alerts
        )

    @property
    def state(self) -> State:
        """What an operator would be shown."""
        return asyncio.run(self.herald.state())


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
