"""The bugs that are planted: each is one idea, as exact text in a named file that becomes another text.

A simulator that finds nothing has shown nothing until it finds these. Each text must occur exactly once in its file
(test_planted.py holds that), so that the table cannot outlive the code it speaks of. Most are one change; where one
rule is backed by another, both go (`Bug.edits` has two).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """In `file` of the package, `old` becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """`rule` is what it breaks: a rule of the lease (design.md), or a sentence of it. `shown` by these invariants."""

    name: str
    rule: str
    shown: tuple[str, ...]
    edits: tuple[Edit, ...]


LEASE = ("one-primary", "newest-term", "lease-ended")
TERMS = ("terms-grow", *LEASE)
QUORUM = ("majority", *LEASE)
DATA = ("nothing-lost",)
PAUSE = ("paused",)
MAINTENANCE = ("maintenance",)
STORE = ("one-mount",)
UNPROVEN = ("unproven-first", "nothing-lost")
FORCE = ("forced", "nothing-lost")


def _bug(name: str, rule: str, shown: tuple[str, ...], *edits: tuple[str, str, str]) -> Bug:
    return Bug(name, rule, shown, tuple(Edit(*edit) for edit in edits))


BUGS = (
    # -- the six rules of the lease
    _bug(
        "counted-from-the-answer",
        "rule 1: a renewal counts from before it was sent",
        LEASE,
        (
            "core/absorb_store.py",
            "granted = lease.granted(record, swap.sent_ms, policy.margin_ms)",
            "granted = lease.granted(record, turn.view.now_ms, policy.margin_ms)",
        ),
    ),
    _bug(
        "ended-lease-revived",
        "rule 2: what comes after the deadline makes no holder, and rule 5: nothing is promised beside an unanswered"
        " takeover; each backs the other",
        LEASE,
        (
            "core/turn.py",
            "if held is not None and self.view.reached(held.deadline_ms):",
            "if held is not None and self.view.reached(held.deadline_ms + self.view.policy.ttl_ms):",
        ),
        (
            "core/absorb.py",
            "if held is None or not view.i_hold():",
            "if held is None or view.leaving is not None or held.term != view.highest_term:",
        ),
        (
            "core/tenure.py",
            "valid = self.valid if self.i_hold() else None",
            "valid = self.held if self.leaving is None else None",
        ),
        (
            "core/tenure.py",
            "return self.held is None and self.leaving is None and self.takeover_sent is None",
            "return self.held is None and self.leaving is None",
        ),
    ),
    _bug(
        "own-ended-term-taken-for-the-new-one",
        "rule 2: a takeover's answer is a record of the term that it asked for; and whoever held a term gives it back"
        " before it asks for another",
        LEASE,
        ("core/absorb_store.py", "won = mine and record.term == waiting.term", "won = mine"),
        (
            "core/rules.py",
            "(V.i_hold_the_ended_term, not_(V.store_is_behind), demoted, V.store_answers)",
            "(V.i_hold_the_ended_term, not_(V.store_is_behind), demoted, V.store_answers, V.paused)",
        ),
    ),
    _bug(
        "wait-short-by-two-margins",
        "rule 3: a whole ttl since the counter was first seen",
        QUORUM,
        (
            "core/lease.py",
            "counted_ms = watch.first_seen_ms + record.ttl_ms",
            "counted_ms = watch.first_seen_ms + record.ttl_ms - record.ttl_ms // 5",
        ),
    ),
    _bug(
        "takeover-inside-its-own-promise",
        "rule 4: whoever promised sends no takeover for a ttl",
        LEASE,
        (
            "core/lease.py",
            "return counted_ms if promise is None else max(counted_ms, promise.bound_until_ms(record))",
            "return counted_ms",
        ),
    ),
    _bug(
        "promises-from-a-majority",
        "rule 4: every other data node must have promised",
        LEASE,
        (
            "core/tenure.py",
            (
                "if promised is None or (promised.node, promised.process) != (self.me.name, self.sendings.process):\n"
                "                return None"
            ),
            (
                "if promised is None or (promised.node, promised.process) != (self.me.name, self.sendings.process):\n"
                "                continue"
            ),
        ),
    ),
    _bug(
        "round-counted-from-the-promise",
        "rule 4: a round counts from its sending",
        LEASE,
        (
            "core/tenure.py",
            "        return min(sent, default=None)",
            "        return self.now_ms if sent else None",
        ),
    ),
    _bug(
        "lower-term-accepted",
        "rule 6: an old copy of the store is refused",
        TERMS,
        ("core/lease.py", "return record.term >= highest_term", "return True"),
    ),
    _bug(
        "term-forgotten-by-a-restart",
        "rule 6: the highest term is on the node's own disk",
        TERMS,
        ("core/act.py", "    if kept != memory:\n", "    if kept.term < memory.term:\n"),
    ),
    # -- quorum and reports
    _bug(
        "majority-off-by-one",
        "quorum: more than half of all configured observers",
        QUORUM,
        ("core/quorum.py", "return configured // 2 + 1", "return configured // 2"),
    ),
    _bug(
        "given-without-a-majority",
        "no change is supported by fewer than a majority",
        QUORUM,
        (
            "core/rules.py",
            "(given_to_me, V.lease_over_by_quorum, V.i_am_frozen,",
            "(given_to_me, V.lease_is_over, V.i_am_frozen,",
        ),
    ),
    _bug(
        "stale-report-counted",
        "quorum: a report has an age",
        QUORUM,
        (
            "core/known.py",
            "if born is not None and not self.reached(born + self.policy.report_max_age_ms + 1):",
            "if born is not None:",
        ),
    ),
    # -- data
    _bug(
        "relay-log-not-applied",
        "promotion: after all that was received is applied",
        DATA,
        (
            "core/positions.py",
            (
                "return facts is not None and (facts.replication is None or "
                "facts.applied.covers(facts.replication.received))"
            ),
            "return facts is not None",
        ),
    ),
    _bug(
        "position-not-final",
        "election: by positions of stopped receivers",
        DATA,
        (
            "core/positions.py",
            "if record is None or facts is None or facts.receives:",
            (
                "if record is not None and facts is not None:\n            return facts.position\n"
                "        if record is None or facts is None or facts.receives:"
            ),
        ),
    ),
    _bug(
        "one-position-is-proof",
        "election: as many final positions as one of them must have acknowledged everything",
        DATA,
        (
            "core/heirs.py",
            "    if len(proving) >= needed:",
            "    if len(proving) >= needed - 1:",
        ),
    ),
    _bug(
        "forgetful-replica-proves",
        "election: a server that was started has forgotten what it acknowledged and had not applied",
        DATA,
        (
            "core/heirs.py",
            "proving = [name for name in positions if forgot_nothing(view, name, record.holder)]",
            "proving = list(positions)",
        ),
    ),
    _bug(
        "semi-sync-not-on",
        "no silent fall-back to asynchronous replication",
        DATA,
        ("core/plan.py", "        StepKind.BECOME_SOURCE,\n        StepKind.AWAIT_REPLICA,\n", ""),
    ),
    _bug(
        "numbers-given-again",
        "what a crash dropped, and a replica may have, is never given to another transaction",
        DATA,
        ("databases/mariadb_promote.py", "return max(last + SKIPPED + boot_us, wall_us)", "return last + 1"),
    ),
    _bug(
        "given-without-what-was-given",
        "switchover: the successor has all that the holder had",
        DATA,
        (
            "core/rules.py",
            "return follows_holder(view) and mine.covers(record.position)",
            "return follows_holder(view)",
        ),
        (
            "core/plan.py",
            "        and not view.i_am_frozen()\n        and not progress.done(StepKind.AWAIT_POSITION)\n",
            "        and False\n",
        ),
    ),
    # -- the gate
    _bug(
        "gate-renewed-beyond-the-lease",
        "the kernel keeps the lease, and no longer",
        LEASE,
        (
            "core/turn.py",
            "self.effects.append(RenewGate(held.term, held.deadline_ms))",
            "self.effects.append(RenewGate(held.term, held.deadline_ms + self.view.policy.ttl_ms))",
        ),
    ),
    _bug(
        "gate-opened-late-by-a-thawed-process",
        "a relative timeout set late is a lie",
        LEASE,
        (
            "actions/gate.py",
            "add rule inet failoverd gate meta nfproto @lease meta time < {bound_s} accept",
            "add rule inet failoverd gate meta nfproto @lease accept",
        ),
    ),
    _bug(
        "wall-clock-read-last",
        "the bound comes out too early, never too late",
        LEASE,
        (
            "actions/gate.py",
            "        wall_ns = self._wall_ns()\n        rest_ms = until_ms - self._clock.now_ms()\n",
            "        rest_ms = until_ms - self._clock.now_ms()\n        wall_ns = self._wall_ns()\n",
        ),
    ),
    _bug(
        "closed-gate-opened-by-a-slow-call",
        "closing has the last word: in the kernel, and in whoever comes back from it; each backs the other",
        LEASE,
        ("actions/gate.py", "delete element inet failoverd turn {{ {turn} }}\n", ""),
        (
            "actions/gate.py",
            "        if self._closings != closings:\n            # By another thread",
            "        if False:\n            # By another thread",
        ),
    ),
    _bug(
        "given-back-with-the-gate-open",
        "demotion: the gate first",
        LEASE,
        (
            "core/swaps.py",
            "return view.gate is GateState.CLOSED and (rules.demoted(view) or (killed and view.database is None))",
            "return rules.demoted(view) or killed or view.gate is not GateState.CLOSED",
        ),
    ),
    # -- a mail store for one node at a time
    _bug(
        "given-back-with-the-store-mounted",
        "demotion: the mail store is left before the term is given back",
        STORE,
        (
            "core/swaps.py",
            "    if not view.mail_store_left():\n        return False",
            "    if not view.mail_store_left():\n        pass",
        ),
    ),
    # -- what a person forces
    _bug(
        "forced-before-the-lease-is-over",
        "a person can give up data, never the lease",
        QUORUM,
        (
            "core/rules.py",
            "            not_(V.paused),\n            V.lease_over_by_quorum,\n",
            "            not_(V.paused),\n",
        ),
        (
            "core/swaps.py",
            "if asked.allow_loss and (record.version == 0 or not turn.view.lease_is_over()):",
            "if asked.allow_loss and record.version == 0:",
        ),
        (
            "core/rules.py",
            "tried = request.target != view.me.name and (request.term != view.highest_term or request.allow_loss)",
            "tried = request.target != view.me.name and request.term != view.highest_term",
        ),
    ),
    _bug(
        "forced-without-the-flag",
        "only who allows the loss of data goes past the proof",
        FORCE,
        (
            "core/forced.py",
            "if record is None or request is None or not request.allow_loss or request.term != record.term:",
            "if record is None or request is None or request.term != record.term:",
        ),
    ),
    # -- going on without a replica
    _bug(
        "waits-no-more-before-it-is-said",
        "the store says that commits go unproven before they do",
        UNPROVEN,
        (
            "core/unproven.py",
            "return marked and _i_own_the_record(view) and _waited_long_enough(view)",
            "return _i_own_the_record(view) and _waited_long_enough(view)",
        ),
    ),
    _bug(
        "unproven-and-elected-all-the-same",
        "while commits go unproven only the holder's own word proves what clients were told",
        DATA,
        ("core/heirs.py", "    if record.unproven:\n", "    if record.unproven and view.paused():\n"),
    ),
    _bug(
        "proven-before-a-replica-has-it",
        "what was let go is proven again when a replica has applied all of it",
        UNPROVEN,
        (
            "core/unproven.py",
            "theirs.heartbeat_term == view.highest_term and theirs.applied.covers(waits.behind):",
            "theirs.heartbeat_term == view.highest_term:",
        ),
    ),
    _bug(
        "proven-while-nothing-waits",
        "commits wait again before the store says that all is proven",
        UNPROVEN,
        (
            "core/unproven.py",
            "    if facts.read_only or not facts.semi_sync_source:\n        return None\n    before = view.waits",
            "    if facts.read_only:\n        return None\n    before = view.waits",
        ),
        (
            "core/unproven.py",
            "if not _i_own_the_record(view) or facts.read_only or not facts.semi_sync_source:",
            "if not _i_own_the_record(view) or facts.read_only:",
        ),
    ),
    _bug(
        "a-new-holder-forgets-what-is-unproven",
        "what is unproven stays so across terms, until a replica has it",
        UNPROVEN,
        (
            "core/swaps.py",
            "        unproven=record.unproven,\n        marks=record.marks,\n",
            "        marks=record.marks + 1,\n",
        ),
    ),
    _bug(
        "an-old-copy-hides-what-is-unproven",
        "an old copy of the store takes no mark back",
        DATA,
        (
            "core/unproven.py",
            "        if said.marks > newest.marks:\n",
            "        if said.marks > newest.marks + view.now_ms:\n",
        ),
    ),
    _bug(
        "marks-not-counted",
        "of two copies of the record, the one with more marks says what is unproven",
        DATA,
        ("core/unproven.py", "unproven=why, marks=record.marks + 1)", "unproven=why, marks=record.marks)"),
    ),
    _bug(
        "mark-not-on-disk",
        "every node keeps the newest mark on its disk",
        DATA,
        ("core/act.py", "        unproven=said.unproven,\n        marks=said.marks,\n", ""),
    ),
    # -- commits that wait for no replica, within a bound
    _bug(
        "floor-without-the-lease",
        "the bound is counted from the lease's end, not from its renewal",
        DATA,
        (
            "core/bounded.py",
            "    return counted(view, view.now_ms + view.policy.ttl_ms)",
            "    return counted(view, view.now_ms)",
        ),
    ),
    _bug(
        "floor-not-asked-for",
        "whoever takes over from a primary that did not wait covers the floor",
        DATA,
        (
            "core/candidates.py",
            "                or (bounded.beyond(view, node.name, positions) if by_floor else None)\n",
            "",
        ),
    ),
    _bug(
        "bounded-before-it-is-said",
        "the store says the bound and a floor before commits stop waiting",
        UNPROVEN,
        (
            "core/unproven.py",
            "return serves and waits and bounded.marked_by_me(view) and _i_own_the_record(view)",
            "return serves and waits and _i_own_the_record(view)",
        ),
    ),
    _bug(
        "old-floor-kept",
        "a renewal without a young sample says that no bound is known",
        DATA,
        (
            "core/bounded.py",
            "    return counted(view, view.now_ms + view.policy.ttl_ms)",
            (
                "    floor = counted(view, view.now_ms + view.policy.ttl_ms)\n"
                "    return floor if floor.position is not None or view.floor is None else view.floor"
            ),
        ),
    ),
    _bug(
        "promise-without-its-floor",
        "a lease that promises prolong has a newer floor than the store's",
        DATA,
        (
            "core/absorb.py",
            "    if report.floor is not None and report.term == turn.view.highest_term:",
            "    if False:",
        ),
    ),
    # -- fencing, pause, store, files
    _bug(
        "fence-timeout-taken-as-success",
        "only a confirmed power-off opens promotion",
        LEASE,
        (
            "core/absorb_steps.py",
            "case StepKind.FENCE if succeeded:",
            "case StepKind.FENCE if event.outcome is not Outcome.FAILED:",
        ),
    ),
    _bug(
        "lease-kept-while-it-is-given-back",
        "a daemon started in between finds no lease that the store may have been told is over",
        LEASE,
        ("runtime/persist.py", "None if noted is None or noted.leaving else", "None if noted is None else"),
    ),
    _bug(
        "condemned-taken-as-off",
        "a revoked term ends when its lease does, or its power",
        QUORUM,
        (
            "core/lease.py",
            "if record.holder is None or record.revoked or record.off:",
            "if record.holder is None or record.revoked or record.off or record.condemned_by:",
        ),
    ),
    _bug(
        "paused-cluster-that-acts",
        "paused, nothing acts by itself",
        PAUSE,
        (
            "core/tenure.py",
            "return self.record is not None and bool(self.record.paused)",
            "return False",
        ),
    ),
    _bug(
        "swap-that-ignores-the-version",
        "the store changes only for who names its version",
        TERMS,
        ("stores/memory.py", "if standing.version == expected_version else", "if standing.term <= record.term else"),
    ),
    _bug(
        "version-kept-across-a-restart",
        "a swap decided on one copy of the store fits no other",
        TERMS,
        (
            "stores/memory.py",
            "self.record = renumbered(record, first_version)",
            "self.record = record",
        ),
    ),
    _bug(
        "lease-file-kept-across-a-reboot",
        "a lease is of one boot: another one's clock says nothing",
        LEASE,
        (
            "runtime/persist.py",
            'if value.get("boot_id") != self._boot_id or min(held) < 0:',
            "if min(held) < 0:",
        ),
    ),
    _bug(
        "elected-while-worked-on",
        "a node in maintenance is no candidate",
        MAINTENANCE,
        (
            "core/candidates.py",
            "    why = _worked_on(view, name) or _out_of_reach(view, name)\n",
            "    why = _out_of_reach(view, name)\n",
        ),
    ),
    _bug(
        "run-out-ends-the-term",
        "what runs out changes nothing of the lease",
        ("orders", *LEASE),
        (
            "core/orders.py",
            "        record = replace(record, maintenance=left)\n",
            "        record = replace(record, maintenance=left, revoked=True)\n",
        ),
    ),
)
