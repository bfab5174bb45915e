"""Secrets that are planted, and whoever says them again: servers and programs that echo all that they are told.

Planted     one unique text for every secret of a configuration, with what quoting makes of it
Echoes      an IMAP and an SMTP server, a database and a webhook, each of which refuses and quotes what it heard
Found       where any of it stands: whole, quoted, encoded, or a piece of it
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import secrets
import socket
import socketserver
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
from mysql_wire import SqlError, Wire

if TYPE_CHECKING:
    from collections.abc import Callable
PIECE = 12  # characters of a secret that may stand nowhere
NASTY = "'\"\\%"  # what each way of quoting changes


@dataclass
class Planted:
    """Secrets by what they are for, and where each lies."""

    directory: Path
    texts: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str, *, before: str = "", after: str = "") -> Path:
        """Make one, in a file of its own."""
        self.texts[name] = f"{secrets.token_hex(8)}{'' if before else NASTY}{secrets.token_hex(8)}"
        path = self.directory / name
        path.write_text(f"{before}{self.texts[name]}{after}\n")
        path.chmod(0o600)
        return path

    def places_in(self, text: str) -> list[str]:
        """Which of them stand in a text."""
        found = []
        for name, secret in self.texts.items():
            slashed = secret.replace("\\", "\\\\")
            whole = {secret, slashed, slashed.replace("'", "\\'"), slashed.replace('"', '\\"'), quote(secret, safe=""),
                     json.dumps(secret)[1:-1], base64.b64encode(secret.encode()).decode().rstrip("=")}  # fmt: skip
            pieces = {secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)}
            if any(form in text for form in whole | pieces):
                found.append(name)
        return found

    def leaks(self, texts: dict[str, str]) -> dict[str, list[str]]:
        """Which stand where, with the words around them: nothing, where all is well."""
        return {where: [f"{name}: {self._around(text, name)}" for name in names]
                for where, text in texts.items() if (names := self.places_in(text))}  # fmt: skip

    def _around(self, text: str, name: str) -> str:
        secret = self.texts[name]
        places = (text.find(secret[at : at + PIECE]) for at in range(len(secret) - PIECE + 1))
        at = next((place for place in places if place >= 0), 0)
        return repr(text[max(at - 120, 0) : at + 60])


def files_below(*directories: Path) -> dict[str, str]:
    """All that lies in them, as text."""
    return {
        str(path): path.read_bytes().decode("utf-8", "replace")
        for directory in directories
        for path in directory.rglob("*")
        if path.is_file()
    }


# ---- who echoes -----------------------------------------------------------------------------------------------------


class _Mail(socketserver.StreamRequestHandler):
    """Refuses every command and says it again, cut at some length as servers do."""

    greeting, refusal = b"", b""

    def handle(self) -> None:
        """Talk."""
        with contextlib.suppress(OSError):
            self.wfile.write(self.greeting)
            for number, line in enumerate(self.rfile):
                tag = line.split(b" ")[0]
                self.server.heard.append(line)  # type: ignore[attr-defined] # of ours
                said = line.strip() if number % 2 else line.strip()[:-5]
                self.wfile.write(self.refusal.replace(b"TAG", tag) + said + b"\r\n")


class _Imap(_Mail):
    greeting, refusal = b"* OK ready\r\n", b"TAG NO not done: "


class _Smtp(_Mail):
    greeting, refusal = b"220 ready\r\n", b"554 not done: "


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True
    heard: list[bytes]


class _Webhook(http.server.BaseHTTPRequestHandler):
    """Refuses, with a place of its own, headers and body that say all again."""

    def do_POST(self) -> None:
        """Take it."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        said = f"{self.path} {dict(self.headers)}"
        self.server.heard.append(said.encode())  # type: ignore[attr-defined] # of ours
        self.send_response(len(self.server.heard) % 2 * 200 + 302)  # type: ignore[attr-defined]
        self.send_header("location", f"http://elsewhere.test{self.path}")
        self.send_header("retry-after", self.path)
        self.end_headers()
        self.wfile.write(said.encode() + body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Database:
    """A server on a Unix socket that is told each password in the clear, and refuses everything with what it was."""

    def __init__(self, path: Path, refuses: str = "") -> None:
        self.heard: list[str] = []
        self._refuses = refuses  # what a statement has in it that is refused
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(20)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(accepted,), daemon=True).start()

    def _answer(self, accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError, AssertionError):
            wire = Wire(accepted)
            password = _Told()
            password.text = ""
            if wire.greet(7, "10.11.6-MariaDB", lambda _: password, set()) is None:
                return
            self.heard.append(password.text)
            while (statement := wire.query()) is not None:
                self.heard.append(statement)
                if statement.startswith("SET NAMES") or self._refuses not in statement:  # a part of the login
                    wire.ok()
                    continue
                number = len(self.heard)
                end = statement.rfind("'") - 3 if number % 2 else len(statement)  # cut in the middle of a value
                near = f"{statement[:end]} {password.text if number % 3 else ''}"
                wire.error(
                    SqlError(1064 if number % 4 else 1045, f"You have an error near '{near}' at line 1", "42000")
                )

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


class _Told(str):
    """A password that is whatever is said; it keeps that."""

    __slots__ = ("__dict__",)

    def __eq__(self, other: object) -> bool:
        self.text = str(other)
        return True

    def __hash__(self) -> int:
        return 0


class Echoes:
    """All of them; `do` makes their sockets where they shall be."""

    def __init__(self, do: Callable[[Callable[[], Any]], Any], address: str, database: Path) -> None:
        self.imap = self._started(do, lambda: _Server((address, 0), _Imap))
        self.smtp = self._started(do, lambda: _Server((address, 0), _Smtp))
        self.webhook = self._started(do, lambda: _Server((address, 0), _Webhook))
        self.database = Database(database)

    @staticmethod
    def _started(do: Callable[[Callable[[], Any]], Any], make: Callable[[], _Server]) -> _Server:
        server: _Server = do(make)
        server.heard = []
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def port(self, server: _Server) -> int:
        """Where it listens."""
        return int(server.server_address[1])

    def close(self) -> None:
        """End them."""
        for server in (self.imap, self.smtp, self.webhook):
            server.shutdown()
            server.server_close()
        self.database.close()


# ---- what others may see of a process -------------------------------------------------------------------------------


class Seen:
    """Command lines and environments of a process and all that it starts, looked at again and again."""

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self._pids = pids
        self.texts: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> dict[str, str]:
        self._thread.start()
        return self.texts

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for pid in self._pids():
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        text = Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace")
                        self.texts[f"{name} of {text[:60]!r} {hash(text):x}"] = text


def children_of(roots: list[int]) -> list[int]:
    """Those and all below them."""
    found = list(roots)
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            found += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return found
