"""Between a node and whoever is not of its cluster: certificates looked at again, refusals told.

    every 30 s, and at a reload    the three files ──> credentials, also of those that are there without a restart
    every 5 s                      refusals here, and those of donor and drill agent ──> audit, at most once a minute
                                   for each port, source and reason
    asked                          findings of both ──> check, alerts; counts and dates ──> /metrics

A disk that hangs holds up nothing: the files are read in a thread that nobody waits for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from failoverd.core.effects import Entry
from failoverd.lives import day, worth_a_word
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.refusals_spool import DONOR, DRILL_AGENT, Told
from failoverd.runtime.accepting import Admission
from failoverd.runtime.host import Refused

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.credentials import Credentials
    from failoverd.lives import Life
    from failoverd.runtime.daemon import Daemon
    from failoverd.runtime.store_files import StoreFiles

# Certificates beside those between the nodes, by Life.of: what they are, and the code of one that is not good. The role
# moves without the first two; without the store it does not.
_BESIDE = {
    "http": ("the certificate of the public port", "HTTP_CERTIFICATE"),
    "operators": ("the CA of operators elsewhere", "ACCESS_REMOTE"),
    "etcd": ("the client certificate for etcd", "CERT_EXPIRED"),
    "etcd-ca": ("the CA of etcd", "CERT_EXPIRED"),
}
LOOK_S = 5.0
RENEW_LOOKS = 6  # looks between two at the certificate files
_log = structlog.get_logger(__name__)


class Trust:
    """One node's. Called on the loop, but for `prepare`."""

    def __init__(
        self,
        config: Config,
        credentials: Credentials,
        daemon: Daemon,
        runtime: Path,
        *,
        store: StoreFiles | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self._warn_s = config.peer.warn_before_ms / 1000
        self._credentials, self._refusals = credentials, credentials.refusals
        self._daemon, self._look_s = daemon, look_s
        self._told = [Told(runtime / name, self._refusals) for name in (DONOR, DRILL_AGENT)]
        self._aside = Aside("trust")
        self._task: asyncio.Task[None] | None = None
        self._said = ""
        self._beside: list[Callable[[], Iterable[Life]]] = []
        self._store = store
        if store is not None:
            self.look_at(store.lives)

    @property
    def outgoing(self) -> ssl.SSLContext:
        """What other nodes are dialled with."""
        return self._credentials.client

    def admission(self, port: str) -> Admission:
        """For the listener of that name."""
        return Admission(port, self._refusals)

    # ---- what is shown ----------------------------------------------------------------------------------------------

    def look_at(self, lives: Callable[[], Iterable[Life]]) -> None:
        """Tell also of the certificates that another part of the daemon has."""
        self._beside.append(lives)

    def refused(self) -> tuple[Refused, ...]:
        """What is wrong with certificates here, and which members are refused."""
        found = [*self._credentials.found(self._warn_s), *self._found_beside(), *self._refusals.standing()]
        if self._store is not None and self._store.problem:
            found.append(("CERT_REFUSED", f"{self._store.problem}; the old one is still in use"))
        return tuple(Refused(code, reason) for code, reason in found)

    def _found_beside(self) -> Iterator[tuple[str, str]]:
        for life in self._lives_beside():
            what, ended = _BESIDE[life.of]
            found = worth_a_word(life, what, self._credentials.now(), self._warn_s)
            if found is not None:
                yield found if found[0] == "CERT_EXPIRES" else (ended, found[1])

    def _lives_beside(self) -> Iterator[Life]:
        for lives in self._beside:
            yield from lives()

    def counts(self) -> dict[tuple[str, str], int]:
        """How many were refused, by port and code."""
        return self._refusals.counts

    def lives(self) -> tuple[Life, ...]:
        """When which certificate ends."""
        return (*self._credentials.lives(), *self._lives_beside())

    # ---- the files --------------------------------------------------------------------------------------------------

    def prepare(self, config: Config) -> Callable[[], None]:
        """At a reload, in a thread: read the certificates again. Raises ValueError where they are no good."""
        take = self._credentials.prepared()
        if self._credentials.problem:
            raise ValueError(self._credentials.problem)
        take_store = self._store.prepare(config) if self._store is not None else None

        def commit() -> None:
            self._warn_s = config.peer.warn_before_ms / 1000
            if take is not None:
                take()
                self._renewed()
            if take_store is not None:
                take_store()

        return commit

    def _renewed(self) -> None:
        own = self._credentials.lives()[0]
        text = f"another certificate is in force, good until {day(own.ends_s)}"
        _log.info(text)
        self._note("certificate", text)

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._look_on())

    async def stop(self) -> None:
        """Look no more; what is to be told still, is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._tell()

    async def _look_on(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(self._look_s)
            looks += 1
            await self.look(files=looks % RENEW_LOOKS == 0)

    async def look(self, *, files: bool) -> None:
        """Look once; `files`: at the certificate files as well."""
        if not self._aside.busy:  # a disk that hangs is found by the node's own probes
            try:
                take, take_store = await self._aside.run(lambda: self._read(files=files))
            except (OSError, ThreadRefusedError) as error:
                _log.warning("certificates and refusals cannot be looked at", reason=str(error))
            else:
                if take is not None:
                    take()
                    self._renewed()
                if take_store is not None:
                    take_store()
                    self._note("certificate", "another certificate for etcd, or CA of it, is in force")
        problem = self._credentials.problem or (self._store.problem if self._store is not None else "")
        if problem and problem != self._said:
            self._note("certificate-refused", problem, "CERT_REFUSED")
        self._said = problem
        self._tell()

    def _read(self, *, files: bool) -> tuple[Callable[[], None] | None, Callable[[], None] | None]:
        for told in self._told:
            told.read()
        if not files:
            return None, None
        return self._credentials.prepared(), self._store.prepared() if self._store is not None else None

    def _tell(self) -> None:
        for refusal, count in self._refusals.due():
            text = refusal.words if count == 1 else f"{refusal.words} ({count} times)"
            detail = (("port", refusal.port), ("source", refusal.source), ("node", refusal.node), ("count", str(count)))
            self._note("peer-refused", text, refusal.code, detail)

    def _note(self, kind: str, text: str, code: str = "", detail: tuple[tuple[str, str], ...] = ()) -> None:
        state = self._daemon.state
        rule = state.rule.id if state.rule is not None else ""
        self._daemon.note(Entry(kind, state.view.highest_term, rule, text, code, detail))
