"""What several targets need: a directory in memory, a loop, an ASGI application asked without a socket, JSON."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import re
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from starlette.types import ASGIApp, Message

TREE = Path(__file__).resolve().parents[2]
SECRETS = {"canary": "canary-fuzz-password", "database": "database-fuzz-password", "replication": "repl-fuzz-password"}


@functools.cache
def directory() -> Path:
    """One of this process, in memory where that is possible, gone at its end."""
    memory = Path("/dev/shm")  # noqa: S108 - a name of its own in it
    made = Path(tempfile.mkdtemp(prefix="failoverd-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def place(name: str) -> Path:
    """An empty one in it."""
    found = directory() / name
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    return found


def written(name: str, data: bytes) -> Path:
    """A file in it with these bytes."""
    path = directory() / name
    path.write_bytes(data)
    return path


@functools.cache
def example() -> str:
    """The shipped configuration, its files in that directory."""
    files = directory() / "etc"
    for name in ("secrets", "tls"):
        (files / name).mkdir(parents=True, exist_ok=True)
    for name, secret in SECRETS.items():
        path = files / "secrets" / name
        path.write_text(secret + "\n")
        path.chmod(0o600)
    for name in ("ca.crt", "node.crt", "node.key"):
        path = files / "tls" / name
        path.write_text("")
        path.chmod(0o600)
    return (TREE / "config" / "failoverd.yaml").read_text().replace("/etc/failoverd", str(files))


@functools.cache
def config_file() -> Path:
    """A file that loads."""
    return written("failoverd.yaml", example().encode())


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """One loop for all inputs of a process."""
    made = asyncio.new_event_loop()
    atexit.register(made.close)
    return made


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it to its end in that loop; nothing of it is left running."""
    made = loop()
    try:
        return made.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(made)
        for task in left:
            task.cancel()
        if left:
            made.run_until_complete(asyncio.gather(*left, return_exceptions=True))


def text(data: bytes) -> str:
    """As a program's output is read."""
    return data.decode("utf-8", "replace")


def packed(*values: object) -> list[bytes]:
    """Each as JSON."""
    return [json.dumps(value).encode() for value in values]


class AnswerIsNone(AssertionError):  # noqa: N818 - it is one
    """An application answered what it should not."""


async def asked(
    app: ASGIApp,
    method: str,
    target: bytes,
    *,
    headers: list[tuple[bytes, bytes]] | None = None,
    body: bytes = b"",
    peer: str | None = None,
) -> tuple[int, bytes]:
    """Ask an application as its server would. Raises AnswerIsNone for a 5xx that nobody has written down."""
    if not target.isascii():
        return 400, b"by the server itself (test_random_ports.py)"
    path, _, query = target.partition(b"?")
    said: list[Message] = []
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return rest.pop(0) if len(rest) > 1 else rest[0]

    async def send(message: Message) -> None:
        said.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": re.sub(rb"%[0-9a-fA-F]{2}", b"_", path).decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers or [],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 7480),
        "state": {"peer": peer, "abort": lambda: None, "refuse": lambda *_: None, "actor": "anna"},
    }
    async with asyncio.timeout(30):
        await app(scope, receive, send)
    status = next(message["status"] for message in said if message["type"] == "http.response.start")
    answer = b"".join(message.get("body", b"") for message in said if message["type"] == "http.response.body")
    return int(status), answer


def parts(data: bytes, count: int) -> list[bytes]:
    """So many lines of an input, and what is left of it."""
    found = data.split(b"\n", count - 1)
    return found + [b""] * (count - len(found))


def header_lines(data: bytes) -> list[tuple[bytes, bytes]]:
    """`name: value` lines as a server's parser hands them on: names in small letters, no line ends in either."""
    found = []
    for line in data.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", name):
            found.append((name.lower(), value.strip().replace(b"\r", b"").replace(b"\0", b"")))
    return found


@contextlib.contextmanager
def saying(listener: socket.socket, data: bytes) -> Iterator[None]:
    """Whoever connects is told `data` and its end, and is heard until it goes. Somebody has to connect."""

    def serve() -> None:
        try:
            with listener.accept()[0] as accepted:
                accepted.settimeout(5)
                accepted.sendall(data)
                accepted.shutdown(socket.SHUT_WR)
                while accepted.recv(65536):
                    pass
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.close()
        thread.join()
