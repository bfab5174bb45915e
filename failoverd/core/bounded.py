"""Commits wait for no replica, and a failover may lose at most the last `bound` of them: `rpo.mode: bounded`.

What a replica has is not known to whoever acknowledges, so the holder says in the store what it has to have. It notes
its own position at each reading (`sampled`), under the moment at which it *asked*: whatever it had acknowledged by then
is in it. With each renewal goes the *floor*, the oldest of these that is young enough:

    ...──── bound before the lease's end ──o───────────── sent ───────── ttl ────────> the lease's end
                                           └ the floor: the first sample after that

Whoever covers the floor lacks only what was acknowledged after that sample, and nothing is acknowledged after the
lease's end: less than `bound` lies between. Without such a sample no bound is known, and nobody is within it.
Samples left out (`KEPT`) only make the floor newer, which asks for more. The bound is one of true time, and the clocks'
rates differ by what the lease's margin allows for: so much of it is not used (`allowed_ms`).

**A lease that promises prolong** (rule 4) ends later than its renewal says, and with it the store's floor is too old.
So a report that asks for promises has a floor of its own, counted from its sending, and whoever promises holds to the
newest: of a term's floors the one counted last, by that holder's clock. That a promise went beyond the store's floor is
on disk before the promise is given (`Memory.floor_ms`): a daemon that was started since takes an older floor for none.

**Who takes over** has all of the terms before, up to what this one began with (Record.began), and that is what it
begins its own with: its first floor. What it acknowledges itself before its first renewal is younger than a ttl, and
the configuration holds that the bound is two of them.

In the store first, as in `unproven`: the MARK says that commits do not wait, with bound and floor, before they do not.
To whoever has another mode, or has only an old copy of the mark, it says what it says there: nobody takes over.
"""

from __future__ import annotations

from dataclasses import replace

from failoverd.core.gtid import GtidSet
from failoverd.core.model import DatabaseFacts, Floor, NodeName, Record, Rejected
from failoverd.core.policy import Policy
from failoverd.core.view import View

Samples = tuple[tuple[int, GtidSet], ...]  # when it was asked, and what this node had: oldest first

KEPT = 48
REMEMBERED_TTLS = 4  # a promise's floor goes to disk this much ahead, so that not each of its rounds does


# ---- the holder -----------------------------------------------------------------------------------------------------


def allowed_ms(policy: Policy) -> int:
    """How old a floor may be at the lease's end, by a clock that may go as fast as the margin allows for."""
    return (policy.bound_ms or 0) * (policy.ttl_ms - policy.margin_ms) // policy.ttl_ms


def why(policy: Policy) -> str:
    """What the store's record says of it."""
    return f"commits wait for no replica: rpo is bounded, {policy.bound_ms} ms"


def sampled(samples: Samples, asked_ms: int, position: GtidSet, policy: Policy) -> Samples:
    """One more reading, where the last one that was kept is old enough; what is too old for any floor goes."""
    longest_ms = allowed_ms(policy)
    if samples and asked_ms < samples[-1][0] + max(1, longest_ms // KEPT):
        return samples
    first = next((n for n, (at_ms, _) in enumerate(samples) if at_ms >= asked_ms - longest_ms), len(samples))
    return (*samples[first:], (asked_ms, position))


def counted(view: View, until_ms: int) -> Floor:
    """The floor where nothing is acknowledged after `until_ms`."""
    oldest_ms = until_ms - allowed_ms(view.policy)
    return Floor(view.now_ms, next((position for at_ms, position in view.samples if at_ms >= oldest_ms), None))


def _of_a_lease(view: View) -> Floor:
    """For a lease that counts from now."""
    return counted(view, view.now_ms + view.policy.ttl_ms)


def takes_sample(view: View, facts: DatabaseFacts) -> bool:
    """A reading of this node's database, which is the primary's."""
    held = view.held
    mine = view.policy.bound_ms is not None and held is not None and held.term == view.highest_term
    return mine and facts.replication is None


def marked_by_me(view: View) -> bool:
    """The store has taken this daemon's own word that commits do not wait, with its bound."""
    record = view.record
    marked = standing(record) and view.marked_term == view.highest_term and view.policy.bound_ms is not None
    return marked and record is not None and record.bound_ms == view.policy.bound_ms


def to_be_marked(view: View) -> str:
    """What the store must say before commits stop waiting, once there is a floor; "" where it says so."""
    return "" if marked_by_me(view) or _of_a_lease(view).position is None else why(view.policy)


def marked(view: View, record: Record) -> Record:
    """The record with this node's bound and floor."""
    return replace(record, bound_ms=view.policy.bound_ms or 0, floor=_of_a_lease(view))


def renewed(view: View, record: Record) -> Record:
    """The record as this holder renews it. Whoever has another mode has no floor: none may outlive a renewal."""
    if not record.bound_ms:
        return record
    return unmarked(record) if view.policy.bound_ms is None else marked(view, record)


def unmarked(record: Record) -> Record:
    """The record without a bound."""
    return replace(record, bound_ms=0, floor=None) if record.bound_ms or record.floor else record


def given_back(view: View, record: Record) -> Record:
    """A term that ends now, with the gate closed. Without a sample the renewal's floor stands: it fits its lease."""
    if view.policy.bound_ms is None or not standing(record) or record.position is not None:
        return record
    floor = counted(view, view.now_ms)
    return replace(record, floor=floor) if floor.position is not None else record


def taken(view: View, record: Record) -> Record:
    """A new term of this node's, in its own mode: its floor is what it has now, before it acknowledges anything."""
    if view.policy.bound_ms is None or record.began is None:
        return record
    floor = Floor(view.now_ms, record.began)
    return replace(
        record, unproven=why(view.policy), marks=record.marks + 1, bound_ms=view.policy.bound_ms, floor=floor
    )


# ---- everybody ------------------------------------------------------------------------------------------------------


def standing(record: Record | None) -> bool:
    """The record says that commits do not wait, and with what bound."""
    return record is not None and bool(record.unproven) and record.bound_ms > 0 and record.floor is not None


def newest(view: View, floor: Floor | None) -> Floor | None:
    """The one counted last of the newest term: of the view, of this node's disk, and this one."""
    known, memory = view.floor, view.memory
    if known is None and memory.floor_ms and memory.term == view.highest_term:
        known = Floor(memory.floor_ms, None)
    if floor is None or (known is not None and known.at_ms > floor.at_ms):
        return known
    return floor


def told(view: View) -> Floor | None:
    """What this node's report says: for the leases of a round that asks for promises, otherwise what it knows."""
    if view.policy.bound_ms is not None and view.asking():
        return _of_a_lease(view)
    return view.floor


def to_remember(view: View) -> int:
    """What must be on this node's disk of floors: whoever was started since must not take an older one for the newest.

    After a promise, which makes those of the store too old; and once the holder lapses, since an old copy of the store
    may be put in place of the one that it knew.
    """
    memory, promise, floor = view.memory, view.promise, view.floor
    kept = memory.floor_ms if memory.term == view.highest_term else 0
    if promise is not None and promise.term == view.highest_term and promise.floor_ms > kept:
        chunk_ms = REMEMBERED_TTLS * view.policy.ttl_ms
        kept = -(-promise.floor_ms // chunk_ms) * chunk_ms
    if floor is not None and floor.at_ms > kept and view.lease_is_lapsing():
        kept = floor.at_ms
    return kept


# ---- whoever would take over ----------------------------------------------------------------------------------------


def applies(view: View) -> bool:
    """The holder's commits did not wait, within a bound, and this node's own configuration takes that for enough."""
    return standing(view.record) and view.policy.bound_ms is not None


def floor_of(view: View) -> Floor | None:
    """The newest floor of the record's term."""
    record = view.record
    if record is None or not standing(record):
        return None
    floor = newest(view, record.floor) if record.term == view.highest_term else None
    return floor or record.floor


def missing(view: View) -> Rejected | None:
    """Why nobody can be known to be within the bound, or None."""
    record, floor, bound_ms = view.record, floor_of(view), view.policy.bound_ms
    if record is None or floor is None or bound_ms is None:
        return None
    if floor.position is None:
        text = (
            f"no bound is known of what {record.holder} told clients: it had no sample young enough, or told it in vain"
        )
        return Rejected(view.me.name, "BLK_RPO_BOUND", text)
    if record.bound_ms > bound_ms:
        text = f"{record.holder} counted its bound as {record.bound_ms} ms, and here it is {bound_ms} ms"
        return Rejected(view.me.name, "BLK_RPO_BOUND", text)
    return None


def beyond(view: View, name: NodeName, positions: dict[NodeName, GtidSet]) -> Rejected | None:
    """Whether `name` may lack more than the bound allows, or somebody who may have more is about to say so."""
    record, floor = view.record, floor_of(view)
    if record is None or floor is None or floor.position is None:
        return None
    lacking = floor.position.minus(positions[name])
    if lacking.parts:
        text = f"{name} lacks {lacking.count} transactions that {record.holder} had more than {record.bound_ms} ms ago"
        return Rejected(name, "BLK_RPO_BOUND", text)
    others = _awaited(view, positions)
    if others:
        text = f"{' and '.join(others)} may have more than {name}, and will have stopped receiving in a moment"
        return Rejected(name, "BLK_RPO_BOUND", text)
    return None


def _awaited(view: View, positions: dict[NodeName, GtidSet]) -> list[NodeName]:
    """Who lives and still receives: for one more ttl after the lease's end. It is the smaller loss, not the bound."""
    record, watch = view.record, view.watch
    if record is None or watch is None or view.reached(watch.first_seen_ms + 2 * record.ttl_ms):
        return []
    return [
        node.name
        for node in view.data_nodes
        if node.name not in positions and node.name != record.holder and _receives(view, node.name, record)
    ]


def _receives(view: View, name: NodeName, record: Record) -> bool:
    facts = view.facts_of(name)
    replication = facts.replication if facts else None
    if replication is None or record.holder is None or view.rebuilding(name):
        return False
    return replication.source == view.node(record.holder).address and not view.gone_astray(name)


def within(view: View) -> list[NodeName]:
    """Who has what the floor asks for, as far as it was heard; the most advanced first."""
    record, floor = view.record, floor_of(view)
    if record is None or floor is None or floor.position is None or not applies(view) or missing(view) is not None:
        return []
    found: list[tuple[int, NodeName]] = []
    for node in view.data_nodes:
        position = view.position_of(node.name) if node.name != record.holder else None
        if position is not None and _receives(view, node.name, record) and position.covers(floor.position):
            found.append((-position.count, node.name))
    return [name for _, name in sorted(found)]


def uses(view: View, positions: dict[NodeName, GtidSet]) -> bool:
    """A takeover now would rest on the floor: the holder neither said nor says what it had."""
    record = view.record
    if record is None or not applies(view):
        return False
    return not (record.revoked and record.position is not None) and record.holder not in positions


def given_up(record: Record) -> str:
    """What a takeover within the bound may have lost, in words."""
    return f"may lack what {record.holder} told clients in its last {record.bound_ms} ms, no more"


# ---- what an operator should know -----------------------------------------------------------------------------------


def out_of_bounds(view: View) -> bool:
    """Should this primary be lost now, nobody could be known to be within the bound."""
    return view.policy.bound_ms is not None and standing(view.record) and not within(view)


def in_words(view: View) -> str:
    """Why."""
    none, record = missing(view), view.record
    if none is not None or record is None:
        return none.reason if none is not None else ""
    return f"no replica has what {record.holder} had {record.bound_ms} ms ago: if it is lost, nobody takes over"


def findings(view: View) -> tuple[tuple[str, str], ...]:
    """The alarm, while it is one."""
    lasts = view.beyond is not None and view.beyond[1]
    return (("RPO_BEYOND_BOUND", in_words(view)),) if lasts and out_of_bounds(view) else ()
