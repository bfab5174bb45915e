"""The client and the referee at work beside the lab, and what they have written so far."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hosts import LabError
from hosts.shell import wait_for
from referee import overlap_ms

from trials import figures

if TYPE_CHECKING:
    from types import TracebackType

    from hosts import Lab

_HERE = Path(__file__).resolve().parents[1]
_SETTLED_MS = 1000.0
# A client that shall notice nothing waits longer than the usual second: with four hosts and what starts there, on two
# processors, a mail takes that long now and then. What is closed meanwhile, the referee sees.
PATIENCE_S = 4.0
BLINK_MS = 250.0  # between two answers to the referee's SYNs, where the processors are busy
LATELY = 8000  # attempts: more than those of a second, at whatever rate


def now_ms() -> float:
    """CLOCK_MONOTONIC in ms: the clock of the client's and the referee's records."""
    return time.monotonic() * 1000


class Watch:
    """The programs, from `with` to its end. The client waits for nobody: the service must be there.

    `writers`: so many more a protocol that write as fast as they are answered. `patience_s`: the time of an attempt.
    """

    def __init__(
        self, lab: Lab, directory: Path, name: str, *, writers: int = 0, patience_s: float | None = None
    ) -> None:
        self._lab, self._writers = lab, writers
        self._patience = () if patience_s is None else ("--timeout", str(patience_s))
        parts = ("client", "referee", "writers") if writers else ("client", "referee")
        self._files = {part: directory / f"{name}.{part}.jsonl" for part in parts}
        self._errors = directory / f"{name}.errors"
        self._tails = {part: figures.Tail(path) for part, path in self._files.items()}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.attempts: list[figures.Attempt] = []
        self.transitions: list[dict[str, object]] = []
        self.summaries: dict[str, dict[str, object]] = {}

    def __enter__(self) -> Self:
        programs = {
            "client": self._lab.client_command(sys.executable, str(_HERE / "client"), *self._patience),
            "referee": [sys.executable, str(_HERE / "referee.py")],
        }
        if self._writers:
            programs["writers"] = [*programs["client"], "--full-rate", str(self._writers)]
        with self._errors.open("wb") as errors:
            for part, command in programs.items():
                self._files[part].unlink(missing_ok=True)
                self._processes[part] = subprocess.Popen(
                    [*command, "--out", str(self._files[part])],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop_client(self) -> None:
        """Let the client finish its last attempts; nothing is written through the virtual IP from here on."""
        for part in ("writers", "client"):
            self._stop(part)

    def stop(self) -> None:
        """End both and read what they wrote last."""
        for part in list(self._processes):
            self._stop(part)
        self.read()

    def _stop(self, part: str) -> None:
        process = self._processes.pop(part, None)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.read()

    def read(self) -> list[dict[str, object]]:
        """Take in what was written since the last call; give the referee's new transitions."""
        for part, process in self._processes.items():
            if process.poll() is not None:
                raise LabError(f"the {part} has ended: {self._errors.read_text().strip() or process.returncode}")
        lines = self._tails["client"].new()
        self.attempts += figures.attempts(lines)
        if self._writers:
            self.attempts += figures.attempts(self._tails["writers"].new())
        found = self._tails["referee"].new()
        new = [line for line in found if "what" in line]
        self.transitions += new
        for part, some in (("client", lines), ("referee", found)):
            for line in some:
                if "summary" in line:
                    self.summaries[part] = line
        return new

    def served_since(self, moment: float) -> bool:
        """Tell whether every protocol has been acknowledged after this moment."""
        return all(
            any(
                attempt.ok and attempt.start > moment
                for attempt in reversed(self.attempts[-LATELY:])
                if attempt.protocol == protocol
            )
            for protocol in figures.PROTOCOLS
        )

    def wait_until_served(self, deadline_s: float, moment: float | None = None) -> None:
        """Wait until every protocol is acknowledged (again), for attempts that began after the moment."""
        since = now_ms() if moment is None else moment

        def served() -> bool:
            self.read()
            return self.served_since(since)

        wait_for("mail served on all three protocols", served, deadline_s)

    def wait_until_steady(self, deadline_s: float = 20.0) -> None:
        """Wait until nothing has failed and no protocol has paused for a second."""

        def steady() -> bool:
            self.read()
            since = now_ms() - _SETTLED_MS
            last = [attempt for attempt in self.attempts if attempt.start > since]
            return len(last) > 0.8 * _SETTLED_MS / 50 * 3 and all(attempt.ok for attempt in last)

        wait_for("mail served without a pause for a second", steady, deadline_s)

    def outages(self, since: float, until: float) -> dict[str, float]:
        """Give each protocol's outage within [since, until]."""
        return {protocol: figures.outage_ms(self.attempts, protocol, since, until) for protocol in figures.PROTOCOLS}

    def noticed(self, host: str, since: float) -> list[str]:
        """Say what a client noticed of the service, which `host` has: attempts that failed, and when it was closed."""
        found = [
            f"{one.protocol}: {one.error} at {one.start - since:.0f} ms"
            for one in self.attempts
            if one.start >= since and not one.ok
        ]
        return found + closed(self.transitions, host, since, now_ms())

    def overlap_ms(self, what: str, since: float, until: float) -> float:
        """Give how long two hosts had `what` (vip, writable, reachable) at once within [since, until]."""
        return overlap_ms(self.transitions, what, since, until)


def closed(transitions: list[dict[str, object]], host: str, since: float, until: float) -> list[str]:
    """Say when the host lacked the virtual IP, or one of the ports that it had open before, for more than a blink."""
    had: dict[str, set[object]] = {"vip": set(), "reachable": set()}
    lacking: dict[str, float] = {}
    spans: list[tuple[str, float, float]] = []
    for line in transitions:
        what, at = str(line["what"]), float(str(line["at"]))
        if line["host"] != host or what not in had:
            continue
        value = set(line["value"]) if isinstance(line["value"], list) else {line["value"]} - {False}
        if had[what] - value:
            lacking.setdefault(what, at)
        elif what in lacking:
            spans.append((what, lacking.pop(what), at))
        had[what] |= value
    spans += [(what, at, until) for what, at in lacking.items()]
    return [
        f"{what}: not as before for {end - at:.0f} ms at {at - since:.0f} ms"
        for what, at, end in spans
        if end - max(at, since) > BLINK_MS
    ]
