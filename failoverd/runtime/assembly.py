"""Builds one node's daemon from its configuration and runs it until it is told to stop.

Everything is made here and handed to what needs it; no part looks another one up. The order is the order in which
things may fail: what only reads comes first, what others could see comes last.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from failoverd import __version__
from failoverd.actions.units import Units
from failoverd.config import membership_digest
from failoverd.core import rejoin
from failoverd.core.health import Sendings
from failoverd.core.lease import still_held, unanswered
from failoverd.core.machine import State
from failoverd.core.model import Health, NodeKind, Outcome
from failoverd.core.view import View
from failoverd.ports import Result, Target
from failoverd.probes.deadline import observe
from failoverd.runtime import guard, host
from failoverd.runtime.beside import Beside
from failoverd.runtime.clock import BootClock
from failoverd.runtime.daemon import Daemon
from failoverd.runtime.executor import Executor, Worker
from failoverd.runtime.history import Historian
from failoverd.runtime.local import database_of, gate_of
from failoverd.runtime.node_server import NodeServer
from failoverd.runtime.ours import credentials_of
from failoverd.runtime.outbox import Outbox
from failoverd.runtime.peers import Peers
from failoverd.runtime.persist import LeaseFile, TermFile, boot_id
from failoverd.runtime.prober import Prober
from failoverd.runtime.reach import reach_of
from failoverd.runtime.recording import Recording
from failoverd.runtime.schedule import Schedule
from failoverd.runtime.showing import Missing, Reloading, shown
from failoverd.runtime.store_files import store_files_of
from failoverd.runtime.storing import store_of
from failoverd.runtime.systemd import Notifier
from failoverd.runtime.thresholds import policy_of
from failoverd.runtime.trust import Trust
from failoverd.runtime.watching import Watching
from failoverd.runtime.witness import Witness
from failoverd.stores.embedded import EmbeddedStoreServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from failoverd.config import Config
    from failoverd.core.anchor import Anchor
    from failoverd.core.lease import Held, Memory
    from failoverd.core.model import Node
    from failoverd.runtime.helped import Helper
    from failoverd.runtime.reloading import Reloader

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Directories:
    """Where the daemon keeps what it remembers, its control socket, and failoverd-helper's, where that is asked."""

    state: Path = Path("/var/lib/failoverd")
    runtime: Path = Path("/run/failoverd")
    helper: Path | None = None


async def run(config: Config, directories: Directories, path: Path) -> None:
    """Be this node until SIGTERM or SIGINT; at SIGHUP read `path`, where `config` is from, again.

    Raises what kept it from starting, or the bug that ended it.
    """
    refused = host.harden(realtime=True)
    clock, notifier, me = BootClock(), Notifier(), config.this
    term = TermFile(directories.state)
    lease = LeaseFile(directories.runtime, boot_id(), config.lease.demote_budget_ms)
    again, stop = _told(signal.SIGHUP), _told(signal.SIGTERM, signal.SIGINT)
    state = _state(config, clock.now_ms(), term.memory, lease.read())

    credentials = credentials_of(config)
    outgoing = credentials.client
    async with contextlib.AsyncExitStack() as stack:
        recording = Recording(config, clock)
        routes = []
        if me.name == config.store.node:
            stored = await _store_server(
                directories.state,
                lambda put: witness.anchored(put),  # noqa: PLW0108 - it is made below
                first_start=term.term == 0,
                stack=stack,
            )
            routes += stored.routes()
        store = store_of(config, outgoing)
        stack.push_async_callback(store.close)

        daemon = Daemon(
            state=state,
            clock=clock,
            store=store,
            lease=lease,
            push=lambda report: peers.push(report),  # noqa: PLW0108 - it is made below
            watch_primary=lambda primary: prober.set_schedule(schedule.of(primary)),
            alive=_Alive(notifier, clock).beat,
        )
        peers = Peers(
            own=me.name,
            nodes=config.nodes,
            port=config.peer.port,
            ssl_context=outgoing,
            deliver=daemon.reported,
        )
        stack.push_async_callback(peers.close)
        witness = Witness(config, daemon, store, recording.lines, outgoing)
        servers = contextlib.AsyncExitStack()
        stack.push_async_exit(servers)
        historian = _historian(config, recording, outgoing, servers)
        database = database_of(config)
        looked_at = database.beside() if me.kind is NodeKind.DATA else None
        reach = reach_of(config, directories.state, directories.runtime, directories.helper)
        schedule = Schedule(
            config,
            looked_at,
            reach.fence,
            directories.runtime,
            queue=reach.queue,
            moved=reach.moved,
            watching=Watching(config, looked_at, clock),
            write=reach.write,
            space=reach.space,
        )
        prober = Prober(clock, schedule.noting(daemon.observed))
        servers.push_async_callback(asyncio.to_thread, prober.stop)  # it waits for a thread
        gate = gate_of(config)
        if me.kind is NodeKind.DATA:
            _require(gate.install())
        daemon.executor = Executor(
            node=me.name,
            clock=clock,
            gate=gate,
            database=database,
            heart=database.beside(),
            units=Units(),
            store=reach.locks,
            prove=_Prover(config, schedule, prober, clock).prove,
            deliver=daemon.step_ended,
            broken=daemon.broken,
            fence=reach.fence,
            queue=reach.mail_queue,
            moved=reach.moved,
            held_until_ms=daemon.held_until_ms,
            runtime=directories.runtime,
        )
        daemon.outbox = Outbox(
            worker=Worker("audit"),
            audit=recording.audit,
            remember=term.keep,
            perform=daemon.perform,
            refuse=daemon.refuse,
        )
        trust = Trust(config, credentials, daemon, directories.runtime, store=store_files_of(config, store))
        control, remote, public, alerting, drilling, reloader = shown(
            config,
            clock,
            daemon,
            Missing(refused, me, directories.runtime, recording, reach.helper),
            historian,
            witness=witness,
            trust=trust,
            reloading=Reloading(path, notifier, schedule, prober, daemon, _beside(reach.helper, me, directories)),
            directories=directories,
        )
        server = NodeServer(
            address=me.address,
            port=config.peer.port,
            ssl_context=credentials.server,
            nodes=list(config.nodes),
            routes=[
                *routes,
                *peers.routes(),
                *historian.routes(),
                *alerting.peer_routes(),
                *witness.peer_routes(),
            ],
            admission=trust.admission("peer"),
        )
        for serving in (server, control, remote, public, alerting, drilling, witness, trust):
            await serving.start()
            servers.push_async_callback(serving.stop)
        prober.start()
        prober.set_schedule(schedule.of(None))
        notifier.ready(f"{me.name} of {config.cluster}")
        servers.callback(asyncio.ensure_future(_reload_when_told(again, reloader)).cancel)
        if reach.helper is not None:
            servers.callback(asyncio.ensure_future(reach.helper.watch()).cancel)
        _say_started(config, term.term, refused)
        await _work(daemon, stop, servers)
        notifier.stopping()


def _require(ready: Result) -> None:
    if ready.outcome is not Outcome.SUCCEEDED:
        raise RuntimeError(f"{ready.code}: {ready.reason}")


def _say_started(config: Config, term: int, refused: tuple[host.Refused, ...]) -> None:
    _log.info("started", node=config.this.name, cluster=config.cluster, version=__version__, term=term)
    for found in refused:
        _log.warning("the host refuses some protection", code=found.code, reason=found.reason)


def _beside(helper: Helper | None, me: Node, directories: Directories) -> Beside | None:
    """Where systemd runs this daemon, and with it those beside it."""
    if helper is None:
        return None
    guarded = me.kind is NodeKind.DATA
    return Beside(Units(), helper, lambda: guard.missing(directories.runtime) if guarded else None)


def _historian(
    config: Config, recording: Recording, outgoing: ssl.SSLContext, servers: contextlib.AsyncExitStack
) -> Historian:
    """Who tells of the past. Reading it, and keeping its files in order, begins beside: no start waits for it."""
    historian = Historian(
        cluster=config.cluster,
        own=config.this.name,
        past=recording.past,
        nodes=config.nodes,
        port=config.peer.port,
        ssl_context=outgoing,
    )
    recording.start()
    servers.push_async_callback(asyncio.to_thread, recording.stop)
    loading = asyncio.create_task(asyncio.to_thread(recording.past.load))
    servers.callback(loading.cancel)
    servers.push_async_callback(historian.close)
    return historian


def _told(*signals: signal.Signals) -> asyncio.Event:
    told = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


async def _reload_when_told(again: asyncio.Event, reloader: Reloader) -> None:
    while True:
        await again.wait()
        again.clear()
        await reloader.reload("SIGHUP")


def _state(config: Config, now_ms: int, memory: Memory, held: Held | None) -> State:
    """What is known before anything was heard: what this node remembers, and a lease that has not run out."""
    view = View(
        me=config.this,
        nodes=tuple(config.nodes.values()),
        policy=policy_of(config),
        membership=membership_digest(config),
        now_ms=now_ms,
        sendings=Sendings(uuid.uuid4().hex),
        highest_term=memory.term,
        memory=memory,
        rejoin=memory.rejoin,
        rejoin_failed=rejoin.failed_before(memory, now_ms),
        takeover_sent=unanswered(memory),
        held=still_held(held, now_ms),
    )
    return State(view=view, software=__version__)


async def _work(daemon: Daemon, stop: asyncio.Event, servers: contextlib.AsyncExitStack) -> None:
    ended = asyncio.Event()
    leaving = asyncio.ensure_future(_leave(stop, servers, daemon, ended))
    try:
        await daemon.run(ended)
    finally:
        leaving.cancel()


async def _leave(stop: asyncio.Event, servers: contextlib.AsyncExitStack, daemon: Daemon, ended: asyncio.Event) -> None:
    """End what takes time while the lease is still renewed, and stop right after a renewal.

    A daemon that is restarted has the rest of the lease to come up in: so the end must not have used it up.
    """
    await stop.wait()
    try:
        await servers.aclose()
        await daemon.renewed()
    finally:
        ended.set()


async def _store_server(
    directory: Path, anchored: Callable[[Anchor], None], *, first_start: bool, stack: contextlib.AsyncExitStack
) -> EmbeddedStoreServer:
    """Open the store on its own node. It is made only by a node that has never seen a term."""
    path = directory / "store.sqlite3"
    if first_start and not path.exists():
        EmbeddedStoreServer.create(path)
    server = EmbeddedStoreServer(path, first_version=time.time_ns() // 1000, anchored=anchored)
    await server.start()
    stack.push_async_callback(server.close)
    return server


class _Alive:
    """Feeds systemd's watchdog from the loop itself, a third of its time apart."""

    def __init__(self, notifier: Notifier, clock: BootClock) -> None:
        self._notifier = notifier
        self._clock = clock
        self._due_ms = 0

    def beat(self) -> None:
        """Call at each event."""
        interval_ms = self._notifier.watchdog_interval_ms
        if interval_ms is not None and self._clock.now_ms() >= self._due_ms:
            self._due_ms = self._clock.now_ms() + interval_ms
            self._notifier.watchdog()


class _Prover:
    """Proves a promotion through the VIP: the same look that observers take, at the address that clients use."""

    def __init__(self, config: Config, schedule: Schedule, prober: Prober, clock: BootClock) -> None:
        self._target = Target(config.this.name, config.vip.address)
        self._schedule = schedule
        self._prober = prober
        self._clock = clock

    async def prove(self, deadline_ms: int) -> Result:
        """Log in and offer a mail through the VIP; FAILED with the first reason."""
        within_ms = deadline_ms // 2
        probes = self._schedule.services.items()
        looks = [observe(name, probe, self._target, within_ms, self._clock) for name, probe in probes]
        for seen in await asyncio.gather(*looks):
            if seen.reading.health is not Health.OK:
                return Result(Outcome.FAILED, seen.reading.code, f"{seen.probe} through the VIP: {seen.reading.reason}")
        return Result(Outcome.SUCCEEDED)
