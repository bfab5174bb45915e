"""The invariants, looked at whenever something moves that they speak of: a gate, the store, a vote, a write.

    one-primary        no two hosts whose kernel lets clients through, at any instant
    newest-term        whose gate opens is the holder of the newest term
    nothing-lost       who opens its gate in a term has every write that a client was told is safe, but for what a
                       person gave up: exactly what a node lacked that was forced, and is missing there; and, where rpo
                       is bounded, for the last of it: of the term that was lost, acknowledged no longer before the
                       term's last than the bound, and nothing where its holder said what it had
    forced             no takeover is forced that a named person has not asked for, for that node and in that term
    terms-grow         terms grow by one, each has one holder; no node takes an older record for a newer one
    lease-ended        a term begins when nobody can be reachable any more: by the former holder's own lease and kernel,
                       or because it gave back, or because it truly has had no power since
    majority           a takeover by quorum is supported by a majority of the holder's observers, each of which has
                       had the same counter for a whole ttl by its own clock and said so lately
    unproven-first     no primary stops waiting for its replicas before the store says that commits go unproven, and the
                       store says so until commits wait again and one replica has applied all that did not; nor, where
                       rpo is bounded, before the bound and a floor stand there
    paused             while paused nothing acts by itself
    maintenance        nobody takes over by itself, or is forced to, who is in maintenance as the store has it
    orders             an order, what runs out and what is due change nothing of the term, its lease or its proof
    one-mount          a mail store for one node at a time is never mounted on two, and only by the newest term's holder
    assertion          the core's own

The judge sees everything at once, knows no node's opinion of itself, and uses nothing of the core to judge by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from failoverd.core.effects import Effect, Entry, Perform, Purpose, Push, Step, StepKind, Swap
from failoverd.core.entitled import improper, older
from failoverd.runtime.outbox import CLOSING

if TYPE_CHECKING:
    from sim_node import Node
    from world import World

    from failoverd.core.model import Record, Report

LOST = "primary-lost-by-quorum"
FORCED = "take-over-forced"
NEVER_PAUSED_RULES = {
    "own-service-restart",
    "own-service-step-down",
    "promotion-stuck",
    "replica-has-more",
    "switchover-asked",
}
ORDERS = {Purpose.ORDER, Purpose.RUN_OUT, Purpose.SCHEDULE}
NEVER_PAUSED_STEPS = {StepKind.RESTART_UNIT, StepKind.FENCE}
AGE_SLACK = 1.12  # a report's age is bounded by the clock of whoever counts it


def _kept(record: Record, *, marked: bool) -> tuple[object, ...]:
    """What no order may touch. `marked`: in an old copy whoever swaps next puts the newest mark back (unproven.py)."""
    lease = (record.term, record.holder, record.counter, record.ttl_ms, record.revoked, record.successor)
    fence = (record.condemned_by, record.off)
    proof = (record.began, record.position, record.forced, record.bounded)
    marks = () if marked else (record.unproven, record.marks, record.bound_ms, record.floor)
    return (lease, fence, proof, marks)


class Violation(AssertionError):  # noqa: N818 - what the invariants' page calls it
    """An invariant does not hold."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


class Judge:
    """Knows what is true, and raises Violation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.holders: dict[int, str | None] = {0: None}
        self.term = 0
        self.failovers = 0  # terms that began because the holder was lost
        self.forced = 0  # terms that a person forced
        self.unproven = 0  # how often a primary stopped waiting
        self.within = 0  # terms that began by a floor
        self.given_up: set[int] = set()  # by Transaction.made: what was acknowledged and missing where one was forced
        self.let_go: set[int] = set()  # by Transaction.made: what waited for no replica, and is not proven since
        self._records: dict[int, Record] = {}
        self._acted: dict[str, int] = {}  # by node: the newest term in which it has begun a step
        self._known: dict[str, Record] = {}  # by node: the newest record that reached it in this boot
        self._first_seen: dict[str, tuple[int, int, int]] = {}  # by node: term, counter, when by its own clock
        self._votes: dict[tuple[str, int], int] = {}  # by node and version: when it said last that the lease is over
        self._judged: tuple[str, int] = ("", 0)
        self._condemned_at: dict[int, int] = {}  # by term: when somebody first revoked it to cut its holder's power

    def violated(self, invariant: str, text: str) -> NoReturn:
        """Say so in the story as well."""
        self._world.tell("judge", f"VIOLATION of {invariant}: {text}")
        raise Violation(invariant, text)

    # ---- gates ------------------------------------------------------------------------------------------------

    def gate_opened(self, node: Node) -> None:
        """A kernel lets clients through from now on, or for longer."""
        for other in self._world.data_nodes:
            if other is not node and other.kernel.lets_through:
                self.violated("one-primary", f"the gates of {other.name} and {node.name} are both open")
        if self.holders[self.term] != node.name:
            self.violated("newest-term", f"{node.name} serves, term {self.term} is {self.holders[self.term]}'s")
        if self._judged != (node.name, self.term):
            self._judged = (node.name, self.term)
            self.check_promoted(node)

    def check_promoted(self, node: Node) -> None:
        """Nothing that a client was promised may be missing where clients will look for it."""
        lost = self._world.clients.acknowledged.difference(t.made for t in node.database.log) - self.given_up
        if lost:
            text = f"{node.name} serves and lacks {len(lost)} acknowledged writes, such as the {min(lost)}th made"
            self.violated("nothing-lost", text)

    # ---- the mail store ---------------------------------------------------------------------------------------

    def mounted(self, node: Node) -> None:
        """A kernel has mounted it. Where no fence is waited for it is one that several nodes may mount at once."""
        if not node.policy.fence_required:
            return
        for other in self._world.data_nodes:
            if other is not node and other.mounted:
                self.violated("one-mount", f"{node.name} mounts the mail store, and {other.name} has it mounted")
        if self.holders[self.term] != node.name:
            self.violated("one-mount", f"{node.name} mounts the store, term {self.term} is {self.holders[self.term]}'s")

    # ---- the store --------------------------------------------------------------------------------------------

    def entitled(self, before: Record, wanted: Record, caller: Node) -> None:
        """A swap reached the store that fits: what production's store would refuse, nobody may ask."""
        why = older(before, wanted) or improper(before, wanted, caller.name)
        if why:
            self.violated("terms-grow", why)

    def stored(self, before: Record, after: Record, swap: Swap) -> None:
        """The store took a swap."""
        self._records[after.version] = after
        if after.condemned_by is not None and before.condemned_by is None:
            self._condemned_at.setdefault(after.term, self._world.now)
        if after.term not in (before.term, before.term + 1):
            self.violated("terms-grow", f"the term went from {before.term} to {after.term}")
        if after.term == before.term and before.holder is not None and after.holder != before.holder:
            self.violated("terms-grow", f"term {after.term} went from {before.holder} to {after.holder}")
        unasked = after.term > before.term and after.reason.startswith((LOST, FORCED))
        if before.paused and (swap.purpose is Purpose.CONDEMN or unasked):
            self.violated("paused", f"{swap.purpose.value} while paused")
        if unasked and any(known.node == after.holder for known in before.maintenance):
            self.violated("maintenance", f"{after.holder} takes term {after.term}, and is in maintenance")
        marked = after.marks > before.marks
        if swap.purpose in ORDERS and _kept(before, marked=marked) != _kept(after, marked=marked):
            self.violated("orders", f"{swap.purpose.value} made {after} of {before}")
        if after.off.startswith("the fence agents") and not before.off:  # operators are no part of what is judged
            self._confirmed(before)
        if before.unproven and not after.unproven:
            self._proven(after)
        if after.term > before.term:
            self._began(before, after)

    def _began(self, before: Record, after: Record) -> None:
        if after.term in self.holders:
            self.violated("terms-grow", f"term {after.term} began twice")
        self.holders[after.term] = after.holder
        self.term = max(self.term, after.term)
        self.failovers += after.reason.startswith(LOST)
        self._lease_ended(before, after)
        if after.reason.startswith(FORCED):
            self._forced(before, after)
        elif after.bounded == after.term:
            self._within_the_bound(before, after)

    def restored(self, record: Record) -> None:
        """Another copy of the record stands, with a version of its own."""
        self._records[record.version] = record

    def _forced(self, before: Record, after: Record) -> None:
        request = before.request
        if request is None or not request.allow_loss or (request.target, request.term) != (after.holder, before.term):
            self.violated("forced", f"{after.holder} forces term {after.term}, and was asked for: {request}")
        database = self._world.node(str(after.holder)).database
        here = {transaction.made for transaction in (*database.log, *database.relay)}
        missing = self._world.clients.acknowledged - here
        self.given_up |= missing
        self.forced += 1
        self._world.tell("judge", f"forced: {len(missing)} acknowledged writes are given up")

    def _within_the_bound(self, before: Record, after: Record) -> None:
        """What its operator allows to be lost, by true time; what was told to clients in earlier terms is no part."""
        bound_ms = self._world.node(str(after.holder)).policy.bound_ms
        if bound_ms is None or before.position is not None:
            said = "its mode is another" if bound_ms is None else f"{before.holder} said what it had"
            self.violated("nothing-lost", f"{after.holder} takes term {after.term} by a floor, and {said}")
        clients, database = self._world.clients, self._world.node(str(after.holder)).database
        missing = clients.acknowledged.difference(t.made for t in (*database.log, *database.relay)) - self.given_up
        for made in missing:
            at, term = clients.told[made]
            early_ms = clients.last[before.term] - at if term == before.term else None
            if early_ms is None or early_ms > bound_ms:
                text = f"{after.holder} lacks the {made}th made, acknowledged in term {term}"
                if early_ms is not None:
                    text += f" {early_ms} ms before its last, and the bound is {bound_ms} ms"
                self.violated("nothing-lost", text)
        self.given_up |= missing
        self.within += 1
        self._world.tell("judge", f"within the bound: {len(missing)} acknowledged writes are lost")

    def stops_waiting(self, node: Node) -> None:
        """A server is told to let go what waits for a replica."""
        record = self._world.store.record
        if record.term == self.term and record.holder == node.name and not record.unproven:
            self.violated("unproven-first", f"{node.name} lets go what waits, and the store does not say so")
        bound_ms = node.policy.bound_ms
        if bound_ms is not None and record.term == self.term and (record.bound_ms != bound_ms or record.floor is None):
            self.violated("unproven-first", f"{node.name} waits no more, and the store has no floor of {bound_ms} ms")
        self.unproven += 1

    def _proven(self, record: Record) -> None:
        """The store says no more that commits go unproven."""
        holder = self._world.node(str(record.holder))
        database = holder.database
        if database.up and not database.read_only and not database.semi_sync_source:
            self.violated("unproven-first", f"the store says that all is proven, and no commit waits at {holder.name}")
        told = (self.let_go & self._world.clients.acknowledged) - self.given_up
        if told:
            others = [node.database.log for node in self._world.data_nodes if node is not holder]
            lacks = min((told.difference(t.made for t in log) for log in others), key=len)
            if lacks:
                text = f"the store says that all is proven, and {len(lacks)} writes are at {holder.name} alone"
                self.violated("unproven-first", text)
        self.let_go.clear()

    def _confirmed(self, record: Record) -> None:
        holder = self._world.node(str(record.holder))
        if holder.powered and holder.powered_at <= self._condemned_at.get(record.term, self._world.now):
            self.violated("lease-ended", f"{holder.name} is confirmed to be off and was not since it was condemned")

    def _lease_ended(self, before: Record, after: Record) -> None:
        for node in self._world.data_nodes:
            if node.name == after.holder:
                continue
            if node.kernel.lets_through:
                self.violated("lease-ended", f"term {after.term} began and {node.name} lets clients through")
            if before.revoked or before.off or not node.powered:
                continue
            left_ms = node.lease_left_ms()
            if left_ms > 0:
                self.violated(
                    "lease-ended", f"term {after.term} began and the lease of {node.name} has {left_ms} ms left"
                )

    # ---- what nodes know and say ------------------------------------------------------------------------------

    def reached(self, node: Node, record: Record) -> None:
        """A record came to a node."""
        known, seen = self._known.get(node.name), self._first_seen.get(node.name)
        if known is not None and (record.term, record.version) < (known.term, known.version):
            return  # late, or an old copy of an earlier term: no news
        self._known[node.name] = record
        if seen is None or (record.term, record.counter) != seen[:2]:  # an old copy of this term counts less
            self._first_seen[node.name] = (record.term, record.counter, node.clock.now_ms())

    def forgot(self, node: Node) -> None:
        """It lost its power, and with it what it knew."""
        self._known.pop(node.name, None)
        self._first_seen.pop(node.name, None)

    def took_record(self, node: Node, before: Record | None, after: Record | None) -> None:
        """What the core of a node takes for the store's state."""
        if before is not None and after is not None and after.term < before.term:
            self.violated("terms-grow", f"{node.name} knew term {before.term} and takes {after.term} for the newest")

    def acted(self, node: Node, step: Step) -> None:
        """A node begins a step: its term is on the node's disk by then, but for what closes and does not wait."""
        if step.kind in CLOSING:
            return
        if step.term < self._acted.get(node.name, 0):
            self.violated("terms-grow", f"{node.name} has acted in term {self._acted[node.name]}, now in {step.term}")
        self._acted[node.name] = step.term

    def asked(self, node: Node, effects: tuple[Effect, ...], entries: tuple[Entry, ...]) -> None:
        """What one step of a node's machine asks for."""
        for effect in effects:
            if type(effect) is Push:
                if effect.report.lease_over:
                    self._voted(node, effect.report)
            elif type(effect) is Swap:
                if effect.purpose is Purpose.TAKE_OVER:
                    self._supported(node, effect)
            elif type(effect) is Perform and effect.step.kind in NEVER_PAUSED_STEPS:
                self._not_paused(node, effect.step.kind.value)
        for entry in entries:
            if entry.kind == "decision" and entry.rule in NEVER_PAUSED_RULES:
                self._not_paused(node, entry.rule)

    def _not_paused(self, node: Node, what: str) -> None:
        known = self._known.get(node.name)
        if known is not None and known.paused:
            self.violated("paused", f"{node.name}: {what} while paused by {known.paused}")

    def _has_seen_the_end(self, node: Node, version: int) -> bool:
        record, seen = self._records.get(version), self._first_seen.get(node.name)
        if record is None or seen is None:
            return False
        if record.revoked or record.off:
            return True
        return seen[:2] == (record.term, record.counter) and node.clock.now_ms() - seen[2] >= record.ttl_ms

    def _voted(self, node: Node, report: Report) -> None:
        if self._has_seen_the_end(node, report.version):
            self._votes[node.name, report.version] = self._world.now

    def _supported(self, node: Node, swap: Swap) -> None:
        record = self._records[swap.expected_version]
        since = self._world.now - node.policy.report_max_age_ms * AGE_SLACK
        support = [node.name] if self._has_seen_the_end(node, swap.expected_version) else []
        observers = [other for other in self._world.nodes if other.name != record.holder]
        for other in observers:
            at = self._votes.get((other.name, swap.expected_version))
            if other is not node and at is not None and at >= since:
                support.append(other.name)
        if 2 * len(support) <= len(observers):
            text = f"{node.name} takes over from {record.holder}, seen by: {', '.join(support) or 'nobody'}"
            self.violated("majority", text)
