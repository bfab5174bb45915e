"""One call of `step` at work: the view and the state as they become, and what is asked for on the way."""

from __future__ import annotations

from failoverd.core import unproven
from failoverd.core.effects import Effect, Entry, KeepLease, RenewGate
from failoverd.core.health import Sightings
from failoverd.core.known import CatchUp
from failoverd.core.lease import Held
from failoverd.core.model import DatabaseFacts
from failoverd.core.state import State
from failoverd.core.view import GateState, View

# What a node decided, or refused: their records carry the view that it was decided on.
DECIDED = {
    "decision",
    "blocked",
    "take-over",
    "forced",
    "give-back",
    "condemn",
    "confirm",
    "request-ended",
    "request-dropped",
    "switchover-undone",
    "rebuild",
    "store-refused",
}


class Turn:
    """`view` is the newest; that of `state` lags behind until the end, since many changes may come together."""

    def __init__(self, state: State, now_ms: int) -> None:
        before = state.view
        self.state = state
        self.view = before.at(max(now_ms, before.now_ms))
        self.effects: list[Effect] = []
        self.entries: list[Entry] = []
        self.decided_on: View | None = None  # the view that the newest decision of this turn was made from
        if before.now_ms and now_ms - before.now_ms > before.policy.ttl_ms:
            self.note("gap", f"nothing happened here for {now_ms - before.now_ms} ms, longer than a lease")
        held = before.held
        if held is not None and self.view.reached(held.deadline_ms):
            self.note("lease-ended", f"the lease of term {held.term} ended; the kernel has closed the gate")
            self.lose()

    def see(self, **changes: object) -> None:
        """Change what is known."""
        self.view = self.view.changed(**changes)

    def keep(self, **changes: object) -> None:
        """Change where this node is in what it does."""
        self.state = self.state.changed(**changes)

    def note(self, kind: str, text: str, *, code: str = "", by: str = "", **detail: str) -> None:
        """One audit record. `by`: the person whom it goes back to; "": nobody, it is this node's own."""
        if by:
            detail["by"] = by
        rule = self.state.rule.id if self.state.rule else ""
        view = (self.decided_on or self.view) if kind in DECIDED else None
        self.entries.append(
            Entry(kind, self.view.highest_term, rule, text, code, tuple(sorted(detail.items())), view=view)
        )

    def read(self, facts: DatabaseFacts) -> None:
        """The database was read, by a look or at a step's end; another run of it has to catch up anew."""
        before, view = self.view.database, self.view
        if before is not None and facts.heartbeat_term == view.highest_term:
            beat = (facts.heartbeat_term, facts.heartbeat_beat)
            if beat != (before.heartbeat_term, before.heartbeat_beat):
                self.see(beat_seen_ms=view.now_ms)
        self._let_go_of(facts)
        since = self.view.catch_up
        if since is None or since.run != facts.run:
            since = CatchUp(facts.run, self.view.now_ms)
        self.see(database=facts, catch_up=since, waits=unproven.waits_again(self.view, facts))
        if facts.read_only and self.view.let_go is not None:
            self.see(let_go=None)  # it was started, and counts anew

    def _let_go_of(self, facts: DatabaseFacts) -> None:
        """A primary that let commits go without a replica says so: what it told clients then may be nowhere else.

        A server that was started counts anew, and is read-only. One that counts anew and is writable had its counters
        put back by a hand, which hides as much as it shows.
        """
        view, before = self.view, self.view.database
        if before is None or before.read_only or facts.read_only or not view.i_hold():
            return
        if view.served_term != view.highest_term or facts.unacknowledged == before.unacknowledged:
            return
        if view.record is not None and view.record.unproven:
            return  # said, and in the store
        more = facts.unacknowledged - before.unacknowledged
        text = f"the server let commits go {more} times without a replica" if more > 0 else "its counters were put back"
        self.note("rpo-unproven", f"{text}: what clients were told meanwhile may be only here", code="RPO_UNPROVEN")

    # ---- the lease --------------------------------------------------------------------------------------------

    def lose(self) -> None:
        """This node's lease is gone, and the kernel has closed the gate, or is about to."""
        self.see(held=None, gate=GateState.UNKNOWN if self.view.gate is GateState.OPEN else self.view.gate)
        self.effects.append(KeepLease(None))

    def hold(self, held: Held) -> None:
        """The lease runs longer: here, for a daemon that is restarted, and in the kernel where the gate is open."""
        self.see(held=held)
        self.effects.append(KeepLease(held, leaving=self.view.leaving is not None))
        if self.view.gate is GateState.OPEN and self.view.i_hold():
            self.effects.append(RenewGate(held.term, held.deadline_ms))

    def new_term(self, term: int) -> None:
        """Rule 6: remembered on disk, and everything of a lower term ends."""
        # What was seen of the former primary is no longer looked at.
        mine = Sightings(s for s in self.view.sightings if s.observation.target == self.view.me.name)
        self.see(highest_term=term, sightings=mine, samples=(), floor=None, beyond=None)
        held = self.view.held
        if held is not None and held.term < term:
            self.note("superseded", f"term {term} began elsewhere, this node's term {held.term} is over")
            self.lose()
        leaving = self.view.leaving
        if leaving is not None and leaving.term < term:
            self.see(leaving=None)
