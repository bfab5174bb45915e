"""How long a node takes to answer a load balancer: min, median, p95 and max of each route, in milliseconds.

    tests/bench/health                         a daemon of its own, on loopback, while four browsers listen
    tests/bench/health --url http://NODE:7480  a node that runs
    --count N                                  questions of each route (2000)

Over one kept connection, as load balancers keep theirs, and over a new one for each question.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "adapters"), str(HERE.parent / "core")]
ROUTES = ("/primary", "/replica", "/replica?lag=500ms", "/healthy", "/ready", "/metrics", "/v1/status", "/v1/check")
LISTENERS = 4


def asked(address: tuple[str, int], path: str, count: int, *, kept: bool) -> list[float]:
    """Ask `count` times: from the first byte sent to the last received, with connecting where it is not kept."""
    request = f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()
    took, connection = [], socket.create_connection(address) if kept else None
    for _ in range(count):
        began = time.perf_counter()
        used = connection or socket.create_connection(address)
        used.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        used.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += used.recv(1 << 16)
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += used.recv(1 << 16)
        took.append((time.perf_counter() - began) * 1000)
        if connection is None:
            used.close()
    if connection is not None:
        connection.close()
    return sorted(took)


def measure(address: tuple[str, int], count: int) -> None:
    """Print a line a route."""
    print(f"{'':22}{'min':>8}{'median':>8}{'p95':>8}{'max':>8}  ms")
    for kept in (True, False):
        print("one connection" if kept else "a connection each")
        for path in ROUTES:
            took = asked(address, path, count, kept=kept)
            figures = (took[0], took[count // 2], took[int(count * 0.95)], took[-1])
            print(f"  {path:20}" + "".join(f"{figure:8.2f}" for figure in figures), flush=True)


async def listened(port: int) -> None:
    """Listen to the events as a browser does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/events HTTP/1.1\r\nhost: bench\r\n\r\n")
    while await reader.read(1 << 16):
        pass


async def own(count: int) -> None:
    """Measure the listener of a replica that changes ten times a second; the questions come from a thread.

    Every document is made anew, though a node gives one again for a tenth of a second.
    """
    import views  # noqa: PLC0415 - only where there is no node to be asked
    from conftest import EXAMPLE, SECRETS  # noqa: PLC0415 - likewise
    from public_stage import Stage  # noqa: PLC0415 - likewise

    from failoverd.runtime import public_shown  # noqa: PLC0415 - likewise

    public_shown.RECENT_MS = 0
    with tempfile.TemporaryDirectory() as directory:
        for name, content in SECRETS.items():
            path = Path(directory) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            path.chmod(0o600)
        config = Path(directory) / "failoverd.yaml"
        config.write_text(EXAMPLE.read_text().replace("/etc/failoverd", directory))
        stage = Stage(config, views.view("mail2"))
        async with stage.running():
            port = stage.server.ports["127.0.0.1"]
            listening = [asyncio.ensure_future(listened(port)) for _ in range(LISTENERS)]
            measuring = asyncio.ensure_future(asyncio.to_thread(measure, ("127.0.0.1", port), count))
            while not measuring.done():
                stage.clock.at_ms += 1
                stage.knows(store_heard_ms=stage.clock.at_ms)
                await asyncio.wait({measuring}, timeout=0.1)
            await measuring
            for task in listening:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="tests/bench/health", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="", help="a node that runs; without it a daemon of its own")
    parser.add_argument("--count", type=int, default=2000, help="questions of each route")
    options = parser.parse_args()
    if options.url:
        where = urlsplit(options.url)
        measure((where.hostname or "127.0.0.1", where.port or 7480), options.count)
    else:
        asyncio.run(own(options.count))


if __name__ == "__main__":
    main()
