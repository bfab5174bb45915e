"""Health for load balancers, from what this node knows by itself: no store, no peer and no disk is asked.

    GET | HEAD | OPTIONS      200, or 503 with why not (HealthDocument); 400 where the question is not understood
    /primary                  it may serve: its lease runs, by its own clock as this is answered, and its gate is open
    /replica                  its database follows the primary: read-only, both threads run, from the right source
    /replica?lag=500ms        and is known to be no further behind: 500ms, 5s, 1m, or whole milliseconds
    /healthy                  it does what its role asks:
                                the primary   is as for /primary, and its services answer its own probes
                                a replica     is as for /replica, and its services answer its own probes
                                the arbiter   its store answers
    /ready                    it runs, has decided, and could take part: the store answers it, its configuration is that
                              of the others, and a data node is not in maintenance and fit to serve.
                              The next node of a rolling upgrade waits for this one's.

A replica's own address is closed to clients by the gate, except to members of the cluster: /replica tells them where to
read, and everybody else how replication stands. What is not known is no: 503 says so in `why`.

The lag is counted by the primary's last report. So it is not known, and /replica?lag= is 503, while that is not heard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from failoverd.config.values import duration_ms
from failoverd.core import candidates
from failoverd.core.model import NodeKind, Role, Thread
from failoverd.core.state import role_of
from failoverd.core.view import GateState
from failoverd.runtime.public_shown import HEADERS, JSON, Shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from failoverd.core.model import DatabaseFacts, Node
    from failoverd.core.view import View

METHODS = ("GET", "HEAD", "OPTIONS")
ALLOWED_LAG = "500ms, 5s, 1m, or whole milliseconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthDocument:
    """Whether a node is what was asked, and if not, each reason in words. `lag_ms` None: not known, or the primary."""

    node: str
    role: Literal["primary", "replica", "arbiter", "fenced"]
    term: int
    ok: bool
    why: tuple[str, ...] = ()
    lag_ms: int | None = None


_HEALTH = TypeAdapter(HealthDocument)


def why_no_primary(view: View) -> list[str]:
    """Why this node may not serve at the moment of the view."""
    found = []
    if view.me.kind is NodeKind.ARBITER:
        found.append("it is an arbiter")
    elif view.leaving is not None:
        found.append(f"it is giving back term {view.leaving.term}")
    elif view.held is None:
        found.append(f"{view.holder or 'nobody'} is primary")
    elif view.held.term != view.highest_term:
        found.append(f"it holds term {view.held.term}, and term {view.highest_term} has begun")
    elif not view.i_hold():
        found.append(f"its lease of term {view.held.term} has ended")
    if view.me.kind is NodeKind.DATA and view.gate is not GateState.OPEN:
        found.append("its gate is not open")
    return found


def why_no_replica(view: View, limit_ms: int | None = None) -> list[str]:
    """Why this node's database does not follow the primary, or not near enough."""
    facts, holder = view.database, view.holder
    if view.me.kind is NodeKind.ARBITER:
        return ["it is an arbiter"]
    if holder == view.me.name and view.i_hold():
        return ["it is primary"]
    if view.i_am_rebuilding():
        return ["its database is being made anew"]
    if facts is None:
        return ["its database does not answer"]
    if holder is None:
        return ["nobody is primary"]
    found = [] if facts.read_only else ["its database takes writes"]
    found += _not_following(facts, view.node(holder))
    return found if limit_ms is None else found + _too_far(view.lag_ms(view.me.name), limit_ms)


def _not_following(facts: DatabaseFacts, holder: Node) -> list[str]:
    replication = facts.replication
    if replication is None or replication.source != holder.address:
        return [f"it does not replicate from {holder.name}"]
    threads = (("receiver", replication.receiver), ("applier", replication.applier))
    return [f"its {name} is {thread.value}" for name, thread in threads if thread is not Thread.RUNNING]


def _too_far(lag_ms: int | None, limit_ms: int) -> list[str]:
    if lag_ms is None:
        return ["how far it is behind is not known"]
    return [f"it is {lag_ms} ms behind, asked for is at most {limit_ms} ms"] if lag_ms > limit_ms else []


def why_not_healthy(view: View) -> list[str]:
    """Why this node does not do what its role asks."""
    if view.me.kind is NodeKind.ARBITER:
        return [] if view.store_answers() else ["its store does not answer"]
    role = why_no_primary(view) if view.holder == view.me.name else why_no_replica(view)
    return role + _silent_services(view)


def _silent_services(view: View) -> list[str]:
    if view.cold:  # the mail store is elsewhere, and the services with it
        return []
    found = []
    for name, _, needed in view.policy.services:
        seen = view.sighting(name, view.me.name)
        if seen is None:
            found.append(f"{name} has not been looked at yet")
        elif seen.failures >= needed:
            reading = seen.observation.reading
            found.append(f"{name} fails: {reading.code}: {reading.reason}")
    return found


def why_not_ready(view: View, *, decided: bool) -> list[str]:
    """Why this node could not take part in what comes next."""
    found = [] if decided else ["it has not decided anything yet"]
    if not view.store_is_known():
        found.append("it has not read the store's newest word")
    if view.membership_differs():
        found.append("it has another configuration of members or timings than most")
    if view.me.kind is NodeKind.ARBITER:
        return found if view.store_answers() else [*found, "its store does not answer"]
    rejected = candidates.cannot_serve(view, view.me)
    return [*found, f"{rejected.code}: {rejected.reason}"] if rejected else found


def lag_limit_ms(text: str) -> int:
    """Milliseconds of `500ms`, `5s`, `1m`, `500`. Raises ValueError."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else duration_ms(text)


@dataclass(frozen=True, slots=True)
class _Health:
    shown: Shown

    async def primary(self, _: Request) -> Response:
        answer = self._answer(why_no_primary)
        # Frozen since the view was taken, it might call a primary what is none any more.
        return answer if not why_no_primary(self.shown.view()) else self._answer(why_no_primary)

    async def replica(self, request: Request) -> Response:
        text = request.query_params.get("lag")
        try:
            limit_ms = None if text is None else lag_limit_ms(text)
        except ValueError:
            return PlainTextResponse(f"lag={text!r} is no duration; allowed: {ALLOWED_LAG}\n", 400, HEADERS)
        return self._answer(lambda view: why_no_replica(view, limit_ms))

    async def healthy(self, _: Request) -> Response:
        return self._answer(why_not_healthy)

    async def ready(self, _: Request) -> Response:
        decided = self.shown.daemon.state.rule is not None
        return self._answer(lambda view: why_not_ready(view, decided=decided))

    def _answer(self, question: Callable[[View], list[str]]) -> Response:
        view = self.shown.view()
        why = question(view)
        role = role_of(self.shown.daemon.state.changed(view=view))
        document = HealthDocument(
            node=view.me.name,
            role=role.value,
            term=view.highest_term,
            ok=not why,
            why=tuple(why),
            lag_ms=view.lag_ms(view.me.name) if role is Role.REPLICA else None,
        )
        headers = {**HEADERS, "allow": ", ".join(METHODS)}
        return Response(_HEALTH.dump_json(document) + b"\n", 503 if why else 200, headers, JSON)


def routes(shown: Shown) -> list[BaseRoute]:
    """The routes of this module."""
    health = _Health(shown)
    return [
        Route("/primary", health.primary, methods=METHODS),
        Route("/replica", health.replica, methods=METHODS),
        Route("/healthy", health.healthy, methods=METHODS),
        Route("/ready", health.ready, methods=METHODS),
    ]
