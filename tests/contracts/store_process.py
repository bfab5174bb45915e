"""The embedded store in a process of its own, as an arbiter runs it: what the contract tests stop, freeze and kill.

store_process.py FILE PORT CA CERTIFICATE KEY: creates FILE when it is missing, prints the port, serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from failoverd.runtime.http import Limits
from failoverd.runtime.node_server import NodeServer
from failoverd.runtime.rates import Rate
from failoverd.stores.embedded import EmbeddedStoreServer
from failoverd.tls import server_context


async def main(file: Path, port: int, ca: Path, certificate: Path, key: Path) -> None:
    store = EmbeddedStoreServer(file, entitled=False)
    await store.start()
    server = NodeServer(
        address="127.0.0.1",
        port=port,
        ssl_context=server_context(ca=ca, certificate=certificate, key=key),
        nodes={"mail1", "mail2", "arbiter"},
        routes=store.routes(),
        limits=Limits(handshakes=(Rate(1000, 1000), Rate(1000, 1000))),  # more clients than a cluster has
    )
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(server.port, flush=True)
    await stop.wait()
    await store.close()
    await server.stop()


if __name__ == "__main__":
    _, file, port, *files = sys.argv
    if not Path(file).exists():
        EmbeddedStoreServer.create(Path(file))
    asyncio.run(main(Path(file), int(port), *map(Path, files)))
