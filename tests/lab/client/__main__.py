"""Run the client: a new attempt every 50 ms on each protocol, whatever became of the earlier ones.

Open loop, because a client that waits for its hung attempt measures its own time-out, which is 1 s here. One JSON
line an attempt: `id protocol start end boot late ok stage error`. `start` and `end` are CLOCK_MONOTONIC in ms, `boot`
is the start in CLOCK_BOOTTIME, `late` by how many ms the start missed its schedule: how far the client itself can be
believed. The last line, after SIGTERM or SIGINT, is a summary: counts, lateness, the processor time that it took.

`--full-rate N` is a load, not a measure: N writers a protocol, each of which begins anew as soon as it was answered. It
takes no more of the processor than the hosts do, and knows no lateness.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hosts import layout

from client.exchanges import EXCHANGES, Service
from client.wire import ProtocolError, Wire

INTERVAL_MS = 50
TIMEOUT_S = 1.0  # of an attempt
_FLUSH_S = 0.1
_PAUSE_S = 0.05  # after a failure: a refused connection is refused within a millisecond


class Client:
    """Starts attempts by the clock and writes what became of each."""

    def __init__(
        self,
        service: Service,
        out: TextIO,
        *,
        protocols: list[str],
        live: bool,
        writers: int = 0,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._service, self._out, self._protocols, self._live = service, out, protocols, live
        self._writers, self._timeout_s = writers, timeout_s
        self._run = f"{time.time_ns() // 1_000_000:x}"
        self._attempts: set[asyncio.Task[bool]] = set()
        self._late: list[float] = []
        self._counts: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Start attempts until told to stop, wait for the last ones, sum up."""
        began = time.monotonic()
        writer = asyncio.create_task(self._keep_flushing())
        await (self._at_full_rate(stop) if self._writers else self._by_the_clock(stop, began))
        writer.cancel()
        self._write(self._summary(time.monotonic() - began))
        self._out.flush()

    async def _at_full_rate(self, stop: asyncio.Event) -> None:
        async def write(protocol: str, writer: int) -> None:
            number = 0
            while not stop.is_set():
                if not await self._attempt(protocol, f"{writer}-{number}", time.monotonic()):
                    await asyncio.sleep(_PAUSE_S)
                number += 1

        await asyncio.gather(*(write(protocol, n) for protocol in self._protocols for n in range(self._writers)))

    async def _by_the_clock(self, stop: asyncio.Event, began: float) -> None:
        step = INTERVAL_MS / 1000 / len(self._protocols)
        number = 0
        while not stop.is_set():
            due = began + number * step
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            protocol = self._protocols[number % len(self._protocols)]
            attempt = asyncio.create_task(self._attempt(protocol, str(number), due))
            self._attempts.add(attempt)
            attempt.add_done_callback(self._attempts.discard)
            number += 1
        await asyncio.gather(*self._attempts)

    async def _attempt(self, protocol: str, number: str, due: float) -> bool:
        """Make one attempt and write down what became of it; give whether it was acknowledged."""
        ident = f"{self._run}-{protocol}-{number}"
        kind, exchange, goodbye = EXCHANGES[protocol]
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        start = time.monotonic()
        wire: Wire = kind.tcp()
        error = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                await exchange(wire, self._service, ident)
        except TimeoutError:
            error = f"time-out at {wire.stage}"
        except (OSError, ProtocolError) as failure:
            error = f"{wire.stage}: {failure}"
        end = time.monotonic()
        if error:
            wire.close()
        else:
            wire.bid_farewell(goodbye)
        late = (start - due) * 1000
        self._late.append(late)
        self._counts[f"{protocol} {'failed' if error else 'ok'}"] += 1
        self._write(
            {
                "id": ident,
                "protocol": protocol,
                "start": round(start * 1000, 2),
                "end": round(end * 1000, 2),
                "boot": round(boot * 1000, 2),
                "late": round(late, 2),
                "ok": not error,
                **({"stage": wire.stage, "error": error} if error else {}),
            }
        )
        return not error

    def _write(self, line: dict[str, object]) -> None:
        self._out.write(json.dumps(line, separators=(",", ":")) + "\n")

    async def _keep_flushing(self) -> None:
        before: Counter[str] = Counter()
        shown = time.monotonic()
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._out.flush()
            if self._live and time.monotonic() - shown >= 1:
                shown = time.monotonic()
                words = (f"{key} {self._counts[key] - before[key]:3}" for key in sorted(self._counts))
                print("  ".join(words), file=sys.stderr)
                before = self._counts.copy()

    def _summary(self, seconds: float) -> dict[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        late = sorted(self._late) or [0.0]
        return {
            "summary": dict(sorted(self._counts.items())),
            "seconds": round(seconds, 2),
            "late_p99": round(late[len(late) * 99 // 100], 2),
            "late_max": round(late[-1], 2),
            "cpu_percent": round((usage.ru_utime + usage.ru_stime) / seconds * 100, 1),
        }


async def _main(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    service = Service(
        address=arguments.address,
        sql_user=layout.APP_USER,
        sql_password=layout.APP_PASSWORD,
        recipients=layout.SMTP_USERS,
        imap_users=layout.IMAP_USERS,
        imap_password=layout.USER_PASSWORD,
    )
    with arguments.out.open("w") as out:
        client = Client(
            service,
            out,
            protocols=arguments.protocols,
            live=arguments.live,
            writers=arguments.full_rate,
            timeout_s=arguments.timeout,
        )
        await client.run(stop)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="client", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--address", default=layout.VIP, help="whom to talk to; default: the virtual IP")
    parser.add_argument("--protocols", nargs="+", choices=list(EXCHANGES), default=list(EXCHANGES))
    parser.add_argument("--live", action="store_true", help="print counts each second")
    parser.add_argument("--full-rate", type=int, default=0, metavar="N", help="N writers a protocol that never pause")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="S", help="of an attempt; default: 1")
    arguments = parser.parse_args()
    with contextlib.suppress(OSError):
        os.nice(
            0 if arguments.full_rate else -10
        )  # a client that has to wait for the processor measures the machine, not the cluster
    gc.freeze()
    asyncio.run(_main(arguments))


if __name__ == "__main__":
    main()
