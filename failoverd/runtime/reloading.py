"""The configuration read again, by `systemctl reload`, SIGHUP or `failoverctl config reload`.

    file ──thread──> Config ──> merged with what is in force ──thread──> new probes, new receivers
                        │                                                       │
                  wrong: CONFIG_REFUSED,                       loop: core, prober, listener, alerts
                  nothing was touched

Reading and whatever waits for a disk is done in a thread, and given up at a deadline: the lease waits for none of it.
All that can fail is done before the first thing is put in force. Role, lease and gate are nobody's business here: the
core takes other thresholds by an event, between changes of primary (core/reconfigure.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from pydantic import TypeAdapter
from pydantic_core import PydanticCustomError
from starlette.responses import Response
from starlette.routing import Route

from failoverd import config as configuration
from failoverd.config.error import ConfigError
from failoverd.config.plain import plain
from failoverd.config.reload import Difference, differences, in_words, merged
from failoverd.core.effects import Entry
from failoverd.core.events import Reconfigured
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.runtime.asked import Body, understood
from failoverd.runtime.document_config import ConfigStatus, KeyChange, ReloadDocument
from failoverd.runtime.host import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from starlette.requests import Request

    from failoverd.config import Config
    from failoverd.core.policy import Policy
    from failoverd.runtime.daemon import Daemon

READ_S = 10.0  # a file that is not read by then lies on a disk that hangs
_STATUS, _RELOAD = TypeAdapter(ConfigStatus), TypeAdapter(ReloadDocument)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the daemon that takes another configuration.

    `prepare` runs in a thread and may fail (OSError, ValueError); what it returns runs on the loop and may not.
    """

    name: str
    prepare: Callable[[Config], Callable[[], Awaitable[None] | None]]


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read, and how each part would take it."""

    changes: tuple[Difference, ...]
    config: Config
    policy: Policy
    commits: tuple[Callable[[], Awaitable[None] | None], ...]


class Reloader:
    """Holds the configuration in force. Called on the loop."""

    def __init__(
        self,
        config: Config,
        path: Path,
        daemon: Daemon,
        *,
        parts: tuple[Part, ...],
        policy_of: Callable[[Config], Policy],
        begins: Callable[[], object] = lambda: None,
        ends: Callable[[], object] = lambda: None,
    ) -> None:
        self.config = config
        self._path, self._daemon = path, daemon
        self._parts, self._policy_of = parts, policy_of
        self._begins, self._ends = begins, ends
        self._read = datetime.now(UTC)
        self._why = ""
        self._aside = Aside("configuration")
        self._turn = asyncio.Lock()

    # ---- what is in force -------------------------------------------------------------------------------------------

    def refused(self) -> tuple[Refused, ...]:
        """That the newest file was not taken, until one is."""
        return (Refused("CONFIG_REFUSED", self._why),) if self._why else ()

    def status(self) -> ConfigStatus:
        """About the configuration in force."""
        shown = json.dumps(plain(self.config), sort_keys=True)
        return ConfigStatus(
            cluster=self.config.cluster,
            node=self.config.this.name,
            path=str(self._path),
            read=self._read.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            digest=hashlib.sha256(shown.encode()).hexdigest(),
            membership=configuration.membership_digest(self.config),
            refused=self._why,
        )

    # ---- reading it again -------------------------------------------------------------------------------------------

    async def compare(self) -> ReloadDocument:
        """What a reload would come to; nothing is touched, and nothing noted."""
        try:
            read = await self._look(with_parts=False)
        except _NotTakenError as why:
            return self._document("refused", asked=False, code="CONFIG_REFUSED", reason=str(why))
        reloaded = any(not each.restart for each in read.changes)
        return self._document("applied" if reloaded else "unchanged", asked=False, changes=read.changes)

    async def reload(self, by: str) -> ReloadDocument:
        """Put in force what needs no restart. One after the other, whoever asks."""
        async with self._turn:
            self._begins()
            try:
                return await self._reload(by)
            finally:
                self._ends()

    async def _reload(self, by: str) -> ReloadDocument:
        try:
            read = await self._look(with_parts=True)
        except _NotTakenError as why:
            self._why = str(why)
            self._note("config-refused", f"the configuration stays as it was: {why}", "CONFIG_REFUSED", by=by)
            return self._document("refused", code="CONFIG_REFUSED", reason=self._why)
        self._why = ""
        self.config, self._read = read.config, datetime.now(UTC)
        self._daemon.feed(Reconfigured(read.policy, by))
        for commit in read.commits:
            waiting = commit()
            if waiting is not None:
                await waiting
        waits = self._daemon.state.policy is not None
        applied = [each.key for each in read.changes if not each.restart]
        left = [each.key for each in read.changes if each.restart]
        said = f"reloaded: {', '.join(applied) or 'nothing is otherwise'}"
        said += f"; needs a restart: {', '.join(left)}" if left else ""
        self._note("config", said, by=by)
        outcome = "waiting" if waits else "applied" if applied else "unchanged"
        return self._document(outcome, changes=read.changes)

    async def _look(self, *, with_parts: bool) -> _Read:
        """Read the file and prepare the parts. Raises _NotTakenError."""
        if self._aside.busy:
            raise _NotTakenError(f"{self._path}: an earlier reading of it has not come back")
        old, parts = self.config, self._parts if with_parts else ()
        try:
            async with asyncio.timeout(READ_S):
                return await self._aside.run(lambda: self._read_in_thread(old, parts))
        except TimeoutError:
            raise _NotTakenError(f"{self._path}: it was not read within {READ_S:.0f} s") from None
        except ThreadRefusedError as error:
            raise _NotTakenError(f"{self._path}: this node cannot read it now: {error}") from None

    def _read_in_thread(self, old: Config, parts: tuple[Part, ...]) -> _Read:
        try:
            new = configuration.load(self._path, old.this.name)
            config = merged(old, new)
        except ConfigError as error:
            raise _NotTakenError(str(error)) from None
        except PydanticCustomError as error:
            why = f"{self._path}: without what needs a restart it does not hold together: {in_words(error)}"
            raise _NotTakenError(why) from None
        commits = []
        for part in parts:
            try:
                commits.append(part.prepare(config))
            except (OSError, ValueError) as error:
                raise _NotTakenError(f"{self._path}: {part.name}: {error}") from None
        return _Read(differences(old, new), config, self._policy_of(config), tuple(commits))

    def _note(self, kind: str, text: str, code: str = "", *, by: str) -> None:
        rule, term = self._daemon.state.rule, self._daemon.state.view.highest_term
        self._daemon.note(Entry(kind, term, rule.id if rule else "", text, code, (("by", by),)))

    def _document(
        self,
        outcome: str,
        *,
        asked: bool = True,
        changes: tuple[Difference, ...] = (),
        code: str = "",
        reason: str = "",
    ) -> ReloadDocument:
        return ReloadDocument(
            node=self.config.this.name,
            path=str(self._path),
            asked=asked,
            outcome=outcome,  # type: ignore[arg-type]  # one of its texts, all in this file
            changes=tuple(map(changed, changes)),
            code=code,
            reason=reason,
        )

    # ---- routes of the control socket -------------------------------------------------------------------------------

    def control_routes(self) -> list[Route]:
        """GET /v1/config, GET /v1/config/diff, POST /v1/reload."""
        return [
            Route("/v1/config", self._show, methods=["GET"]),
            Route("/v1/config/diff", self._compare, methods=["GET"]),
            Route("/v1/reload", self._asked, methods=["POST"]),
        ]

    async def _show(self, _: Request) -> Response:
        document = _STATUS.dump_python(self.status()) | {"values": plain(self.config)}
        return Response(json.dumps(document, ensure_ascii=False), media_type="application/json")

    async def _compare(self, _: Request) -> Response:
        return Response(_RELOAD.dump_json(await self.compare()), media_type="application/json")

    async def _asked(self, request: Request) -> Response:
        asked = await understood(request, Body)
        if isinstance(asked, Response):
            return asked
        # Whoever asked may go away: what has begun is ended.
        document = await asyncio.shield(asyncio.ensure_future(self.reload(request.state.actor)))
        return Response(_RELOAD.dump_json(document), media_type="application/json")


class _NotTakenError(Exception):
    """Why a file is not taken."""


def changed(each: Difference) -> KeyChange:
    """A difference as the document has it."""
    return KeyChange(
        key=each.key,
        old=json.dumps(each.old, ensure_ascii=False),
        new=json.dumps(each.new, ensure_ascii=False),
        restart=each.restart,
        same_everywhere=each.same_everywhere,
    )
