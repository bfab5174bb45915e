"""`failoverd drop`: give up the role without the daemon, from the configuration alone, within about two seconds.

    gate closed, address removed ──> read-only over SQL within the demote budget ──not obeyed──> the server killed
                                 └──> where the mail store moves with the role: services stopped, the store left

Safe at any time: on a replica all of it is so already, on the arbiter and on a node that has never seen a term there is
nothing to give up. A daemon that runs and holds the lease puts everything back at its next renewal: to move the role,
`failoverctl promote` is the way.

With `--at-lease-end` it is what systemd starts after the daemon has ended, however it ended. It waits until the lease
that the daemon noted runs out, and goes away when a daemon that was started again renews it: a restart, a crash and an
upgrade drop nothing. failoverd-guard does the same for the database, and sooner; this is for a node without one.

`failoverd close` is its first part, for the boot: services that start before the daemon are not to be reached. It also
holds the mail queue, where that is failoverd's business: a node whose power was cut would deliver again what it had
delivered just before (actions/queue.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from failoverd.actions.leash import LeashError, server_behind
from failoverd.actions.units import Units
from failoverd.core.effects import StepKind
from failoverd.core.model import NodeKind, Outcome
from failoverd.core.plan import DEADLINES
from failoverd.runtime.lapse import is_ending
from failoverd.runtime.local import database_of, gate_of, mail_store_of, queue_of
from failoverd.runtime.persist import StateError, TermFile

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.ports import Gate, MovedStore
    from failoverd.runtime.executor import UnitActions

HOLD_MS = 10_000  # half of what the boot waits for it
BEFORE_END = 0.5  # of the demote budget: after a live daemon and the guard, which begin with all of it left


def main(config: Config, options: argparse.Namespace) -> int:
    """Drop, now or at the lease's end; 0 when there is no role here afterwards, or a daemon holds it."""
    if config.this.kind is not NodeKind.DATA or not _was_here(options.state):
        _say("no role has ever been here: nothing is touched")
        return 0
    if options.command == "close":
        closed = _closed(gate_of(config))
        return 0 if queue_held(config, options.state) and closed else 1
    if options.at_lease_end and not is_ending(options.runtime, int(config.lease.demote_budget_ms * BEFORE_END)):
        return 0
    budget_ms = config.lease.demote_budget_ms
    # At the lease's end the time that is left is all there is: the next primary does not wait for slow SQL.
    within_ms = int(budget_ms * BEFORE_END) if options.at_lease_end else budget_ms
    dropped = drop(config, gate_of(config), within_ms)
    return 0 if _left(config, options) and dropped else 1


def _was_here(state: Path) -> bool:
    """Whether this node has ever seen a term. A file that cannot be read tells of one."""
    try:
        return TermFile(state).term > 0
    except StateError:
        return True


def drop(config: Config, gate: Gate, within_ms: int) -> bool:
    """Close, then read-only within this time, or killed. Each is tried whatever becomes of the other."""
    closed = _closed(gate)
    database = database_of(config)
    made = database.make_read_only(deadline_ms=within_ms)
    if made.code == "DB_LOST":  # the server ended meanwhile: the one that comes up is asked anew
        made = database.make_read_only(deadline_ms=within_ms)
    obeyed = made.outcome is Outcome.SUCCEEDED or made.code == "DB_REFUSED"  # no server writes nothing
    if not obeyed:
        _say(f"the database is not read-only: {made.code}: {made.reason}: its server is killed")
        obeyed = _kill(str(config.database.socket))
    _say("the role is dropped" if obeyed else "the database may still be writable")
    return obeyed and closed


def _closed(gate: Gate) -> bool:
    result = gate.close()
    if result.outcome is not Outcome.SUCCEEDED:
        _say(f"the gate is not closed: {result.code}: {result.reason}")
    return result.outcome is Outcome.SUCCEEDED


def queue_held(config: Config, state: Path) -> bool:
    """Hold what Postfix would deliver, where that is failoverd's business; say what came of it."""
    found = queue_of(config, state)
    if found is None:
        return True
    result = asyncio.run(found[0].hold(deadline_ms=HOLD_MS))
    if result.outcome is not Outcome.SUCCEEDED or result.reason:
        _say(f"the mail queue: {result.code + ': ' if result.code else ''}{result.reason}")
    return result.outcome is Outcome.SUCCEEDED


def _left(config: Config, options: argparse.Namespace) -> bool:
    """Leave the mail store, where it moves with the role: last, since it takes its time and nobody gets in by then."""
    moved = mail_store_of(config, options.runtime)
    if moved is None:
        return True
    try:
        term = TermFile(options.state).term
    except StateError:
        term = 0
    units = [service.unit for service in config.services.values()]
    return asyncio.run(leave(moved, Units(), units, term=term, deadline_ms=config.mail_store.timeout_ms))


async def leave(moved: MovedStore, actions: UnitActions, units: list[str], *, term: int, deadline_ms: int) -> bool:
    """Stop what works on the mail store, then release it; what still runs keeps it. Whether it is not here any more."""
    result = await actions.stop(units, deadline_ms=DEADLINES[StepKind.STOP_SERVICES])
    if result.outcome is Outcome.SUCCEEDED:
        result = await moved.release(term=term, deadline_ms=deadline_ms)
    if result.outcome is not Outcome.SUCCEEDED:
        _say(f"the mail store is not left: {result.code}: {result.reason}")
    return result.outcome is Outcome.SUCCEEDED


def _kill(path: str) -> bool:
    try:
        server = server_behind(path)
        if server is not None:
            os.kill(server, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except (LeashError, PermissionError) as error:
        _say(str(error))
        return False
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"drop: {text}\n")
