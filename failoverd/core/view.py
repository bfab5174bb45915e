"""One snapshot of all that this node knows, with the predicates that the rules are made of.

A view is a value: the audit stores it, `explain` replays it, the simulator builds it. `now_ms` is in it, so a
predicate never asks for the time. Predicates read as claims and are total: what is not known is False, and the rule
table is ordered so that False is the safe side.
"""

from __future__ import annotations

from failoverd.core.errant import errant, in_words
from failoverd.core.findings import compared
from failoverd.core.known import GateState, Leaving, Restart, remembered
from failoverd.core.lag import limit_ms
from failoverd.core.model import NodeKind, NodeName, Thread
from failoverd.core.positions import Positions
from failoverd.core.verdicts import Verdict, Verdicts

__all__ = ["GateState", "Leaving", "Restart", "Verdict", "View"]


class View(Verdicts, Positions):
    """All that is known here and now. Built by `machine`, never changed in place."""

    # ---- what this node is and does ---------------------------------------------------------------------------

    def i_am_arbiter(self) -> bool:
        """This node holds no mail."""
        return self.me.kind is NodeKind.ARBITER

    def i_was_here_before(self) -> bool:
        """This node has taken part in a term, so an untouched cluster it is not."""
        return self.highest_term > 0

    def membership_differs(self) -> bool:
        """This node's idea of who is a member, or of the timings, is that of the fewer: it stands aside."""
        alike = sum(map(self.alike, self.fresh.values()))
        return len(self.fresh) - alike > alike

    def adoptable(self) -> bool:
        """Nobody was ever primary, this node runs as one, and every other data node replicates from it."""
        if not self.never_claimed() or not self.writable() or self.i_was_here_before() or self.told_of_newer():
            return False
        if not (self.vip is not None and self.vip.present):
            return False
        others = [node for node in self.data_nodes if node.name != self.me.name]
        facts = [self.facts_of(node.name) for node in others]
        return all(
            known is not None
            and known.read_only
            and known.replication is not None
            and known.replication.source == self.me.address
            and known.replication.receiver is Thread.RUNNING
            for known in facts
        )

    # ---- findings of more than one reading --------------------------------------------------------------------

    def errant(self, name: NodeName) -> str:
        """What the database of `name` holds that no primary wrote, in words; "" where there is nothing, or not known.

        Judged only in a term whose row this node has read: a new primary writes before its row is there.
        """
        settings, facts = self.settings, self.facts_of(name)
        if settings is None or facts is None or not settings.journal.term:
            return ""
        if settings.journal.term != self.highest_term or facts.heartbeat_term > settings.journal.term:
            return ""
        return in_words(errant(facts.holdings, settings.journal))

    def strangers_acknowledge(self) -> str:
        """Why somebody who is no member must be among those that acknowledge this primary's commits; "" where not.

        An election asks members what they have. A commit that only a stranger has acknowledged is on none of them.
        A member that is not heard may be one of those counted.
        """
        facts = self.database
        if facts is None or not facts.semi_sync_source or not self.i_hold():
            return ""
        others = [node.name for node in self.data_nodes if node.name != self.me.name]
        may = [name for name in others if self._may_acknowledge_me(name)]
        if facts.semi_sync_clients <= len(may):
            return ""
        return f"{facts.semi_sync_clients} acknowledge, and of the members only {', '.join(may) or 'none'} can"

    def _may_acknowledge_me(self, name: NodeName) -> bool:
        report = self.fresh.get(name)
        if report is None or report.database is None:
            return True
        replication = report.database.replication
        return (
            replication is not None
            and replication.source == self.me.address
            and replication.receiver is not Thread.STOPPED
        )

    @property
    @remembered
    def findings(self) -> tuple[tuple[str, str], ...]:
        """(code, reason) of what an operator should know of this node."""
        found, settings, me = list(self.findings_of_probes), self.settings, self.me.name
        if settings is not None:
            others = {name: report.identity for name, report in self.fresh.items() if report.identity is not None}
            found += compared(settings.identity, others, self.holder)
        if self.lag.code:
            lag_ms, limit = self.lag_ms(me), limit_ms(self.lag.level, self.policy)
            behind = "not known how far" if lag_ms is None else f"{lag_ms} ms"
            found.append((self.lag.code, f"{behind} behind {self.holder}, the limit is {limit} ms"))
        extra = self.errant(me)
        if extra:
            found.append(("ERRANT", extra))
        strangers = self.strangers_acknowledge()
        if strangers:
            found.append(("STRANGER_ACKNOWLEDGES", strangers))
        if me in self.policy.store_unfenced:
            found.append(("STORE_UNFENCED", f"fencing.nodes has no agent for {me}"))
        return tuple(found)

    # ---- restarts and flapping --------------------------------------------------------------------------------

    def restart_of(self, service: str) -> Restart | None:
        """The newest restart of a service that is still remembered."""
        for restart in reversed(self.restarts):
            if restart.service == service and not self.reached(restart.began_ms + self.policy.restart_memory_ms):
                return restart
        return None

    @property
    def takeovers_in_window(self) -> int:
        """How many terms began within the flap window, as this node saw them."""
        return sum(not self.reached(at_ms + self.policy.window_ms) for at_ms in self.takeovers_ms)

    def at(self, now_ms: int) -> View:
        """The same knowledge at another time: what `explain` and the tests' tables use."""
        return self.changed(now_ms=now_ms)
