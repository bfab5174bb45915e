"""`failoverd drill`: the coordinator. By failoverd-drill.service alone: what an operator types is `failoverctl drill`.

    failoverd drill              what the daemon was asked for; else, where one is due, what the schedule says
    failoverd drill --recover    clear up after one that has not ended by itself

Exit codes: 0 passed, or none was due; 1 failed or aborted, and all is taken back; 3 refused or skipped: nothing was
touched; 4 something of it may be left, which the journal names.
"""

from __future__ import annotations

import asyncio
import fcntl
import signal
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from failoverd.drill import DrillError, model, recover, schedule
from failoverd.drill.book import Book
from failoverd.drill.calls import Agents
from failoverd.drill.coordinator import Coordinator, Stage
from failoverd.drill.local import LocalDaemon
from failoverd.drill.model import Asked
from failoverd.drill_files import DIRECTORY, LOCK, REQUEST
from failoverd.runtime import drills_past

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from failoverd.config import Config

DONE, FAILED, REFUSED, LEFT = 0, 1, 3, 4
SOCKET = "control.sock"
TAKEN_S = 60.0  # a request is for now: who asked has seen that nothing came of it


def main(config: Config, options: argparse.Namespace) -> int:
    """Entry point."""
    place = options.state / DIRECTORY
    place.mkdir(parents=True, exist_ok=True, mode=0o750)
    with (place / LOCK).open("w") as lock:  # held until this process is gone, however it goes
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("DRILL_RUNNING: another process of this node conducts a drill, or clears up after one")
            return REFUSED
        return _main(config, options)


def _main(config: Config, options: argparse.Namespace) -> int:
    if options.recover:
        clean = asyncio.run(recover.recover(config, options.state, options.runtime / SOCKET, _say))
        return DONE if clean else LEFT
    try:
        asked = _asked(config, options.runtime, options.state)
    except DrillError as error:
        _say(str(error))
        return REFUSED
    if asked is None:
        _say("none was asked for, and none is due")
        return DONE
    return asyncio.run(_run(config, options.state, options.runtime / SOCKET, asked))


def _asked(config: Config, runtime: Path, state: Path) -> Asked | None:
    """What was asked for, or is due. A request is taken once. Raises DrillError."""
    request = runtime / REQUEST
    try:
        age_s = time.time() - request.stat().st_mtime
        text = request.read_bytes()
    except FileNotFoundError:
        return _scheduled(config, state)
    request.unlink()
    if age_s > TAKEN_S:
        _say(f"what was asked for {age_s:.0f} s ago is not begun so late: {text.decode(errors='replace').strip()}")
        return _scheduled(config, state)
    try:
        return model.load(Asked, text)
    except ValueError as error:
        raise DrillError("DRILL_BUG", f"{request}: {error}") from None


def _scheduled(config: Config, state: Path) -> Asked | None:
    now, wanted = datetime.now(UTC), config.drill.schedule if config.drill.enabled else None
    past = drills_past.read(state / DIRECTORY)
    if wanted is None or not schedule.due(wanted, str(config.this.name), past.passed, now):
        return None
    load = config.drill.load
    return Asked(
        id=f"{now:%Y%m%d-%H%M%S}-{wanted.scenario}",
        scenario=wanted.scenario,
        by="failoverd",
        users=load.users,
        duration_s=load.duration_ms // 1000,
        backup=config.drill.backup.kind,
        reason=f"due every {wanted.days} days",
        scheduled=True,
    )


async def _run(config: Config, state: Path, socket: Path, asked: Asked) -> int:
    if not await recover.recover(config, state, socket, _say):
        _say("DRILL_RUNNING: an earlier drill has left something; see its state")
        return LEFT
    book = Book.opened(state, asked, config.cluster, _say)
    async with Agents(config) as agents, LocalDaemon(socket) as daemon:
        stage = Stage(config, book, agents, daemon, lambda: datetime.now().astimezone())
        conducting = Coordinator(stage)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, conducting.abort)
        outcome = await conducting.run()
    if not book.drill.clean:
        return LEFT
    return {"passed": DONE, "skipped": REFUSED}.get(outcome, FAILED)


def _say(text: str) -> None:
    sys.stderr.write(f"drill: {text}\n")
    sys.stderr.flush()
