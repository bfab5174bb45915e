"""`failoverctl rejoin`: what would be done, and how it goes on, in words.

The request goes to the node itself, with the reports where it was asked for elsewhere (core/rejoining.py). What comes
back are that node's reports: this file makes events of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core import machine, rejoin
from failoverd.core.model import NodeName, RequestEnded, Thread
from failoverd.runtime import document as doc

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.core.model import RebuildFacts, Rejoin
    from failoverd.core.view import View

UNHEARD_MS = 20_000  # after which a node that was asked, and speaks of something else, has not heard it
AWAY_MS = 60_000  # after which a node that is silent is not waited for: it may have been started again meanwhile
FOLLOWS_MS = 60_000  # for a node to follow by itself
_STEP = 10  # percent of the stream between two events


def plan(view: View, config: Config, node: str, donor: str, *, anew: bool) -> doc.RejoinDocument:
    """What `rejoin` would do to `node` now, or why it would not. `anew`: a rebuild even where nothing asks for it."""
    name, why = NodeName(node), _why(view, NodeName(node), anew=anew)
    held = rejoin.held_back(view, name) if why else ""
    given = NodeName(donor) if donor else rejoin.donor_for(view, name)
    refused = rejoin.rejections(view, node, donor)
    reasons = [doc.Reason(code=r.code, reason=r.reason, node=r.node) for r in refused]
    if why and config.database.dialect != "mariadb":
        text = f"only MariaDB's data can be made anew, and database.dialect is {config.database.dialect}"
        reasons.append(doc.Reason(code="REBUILD_DIALECT", reason=text, node=node))
    mine, theirs = view.facts_of(name), view.facts_of(view.holder) if view.holder else None
    extra = mine.holdings.minus(theirs.holdings) if mine is not None and theirs is not None else None
    following = _follows(view, name)
    return doc.RejoinDocument(
        node=node,
        holder=view.holder or "",
        action="rebuild" if why else "none" if following else "follow",
        reason=f"{why}. Not by itself: {held}" if held else why,
        donor=given or "",
        transactions=None if extra is None or following else extra.count,
        ahead=str(config.rebuild.ahead),
        refused=tuple(reasons if why else (r for r in reasons if r.code not in _OF_A_REBUILD)),
    )


_OF_A_REBUILD = ("BLK_LAST_REPLICA", "BLK_NO_DONOR", "BLK_REBUILDING")


def _why(view: View, node: NodeName, *, anew: bool) -> str:
    found = rejoin.need(view, node)
    if found or view.holder in (None, node):
        return found
    if view.errant(node):
        return f"it holds what no primary wrote: {view.errant(node)}"
    if view.facts_of(node) is None:
        return "its database does not answer; what it has extra is read from its files"
    return "nothing asks for it but who says --rebuild" if anew else ""


def _follows(view: View, node: NodeName) -> bool:
    facts, holder = view.facts_of(node), view.holder
    replication = facts.replication if facts else None
    if replication is None or holder is None:
        return False
    both_run = replication.receiver is replication.applier is Thread.RUNNING
    return both_run and replication.source == view.node(holder).address


def followed(state: machine.State, node: NodeName, elapsed_ms: int) -> doc.Event | None:
    """The end of a wait for a node that follows by itself."""
    if _follows(state.view, node):
        text = f"{node} follows {state.view.holder}"
        return doc.Event(elapsed_ms=elapsed_ms, node=node, text=text, final=True, succeeded=True)
    if elapsed_ms > FOLLOWS_MS:
        text = f"{node} does not follow {state.view.holder} yet; `failoverctl status` shows why"
        return doc.Event(elapsed_ms=elapsed_ms, node=node, text=text, code="REQUEST_UNSEEN", final=True)
    return None


class Ending:
    """How a rebuild ends for who asked for it: called again and again until it gives the last event.

    its node tells the end                        that
    it failed in the middle                       at once, though its node goes on
    its node has it, and speaks of it             later: it is bounded there (core/rejoining.py)
    its node has it not, and told no end          the program's last word, or UNHEARD_MS
    its node is silent                            AWAY_MS
    """

    def __init__(self, asked: Rejoin) -> None:
        self._asked = asked
        self._known_ms = 0  # when its node was last seen to have it

    def __call__(self, state: machine.State, elapsed_ms: int) -> doc.Event | None:
        """The last event, if this is the end."""
        view, node = state.view, self._asked.node
        end = _end_of(view, self._asked)
        if end is not None:
            return self._last(elapsed_ms, end)
        facts = facts_of(view, node)
        own = facts if facts is not None and facts.request == self._asked.id else None
        if own is not None and own.stage == "failed" and own.touched:
            text = f"{own.reason}. The old data have left their place: {node} tries again by itself, once a minute"
            return self._last(elapsed_ms, RequestEnded(self._asked.id, succeeded=False, code=own.code, reason=text))
        report = view.report_of(node)
        if state.rejoin_asked == self._asked or self._asked.id == _taken(view, node):
            self._known_ms = elapsed_ms
        elif own is not None and own.home and report is not None:
            return self._last(elapsed_ms, RequestEnded(self._asked.id, succeeded=True, reason=own.saved))
        elif own is not None and own.stage == "failed" and report is not None:  # its daemon was started again since
            failed = RequestEnded(self._asked.id, succeeded=False, code=own.code, reason=own.reason)
            return self._last(elapsed_ms, failed)
        return self._unseen(view, elapsed_ms)

    def _unseen(self, view: View, elapsed_ms: int) -> doc.Event | None:
        node, silent_ms, code = self._asked.node, elapsed_ms - self._known_ms, "REQUEST_UNSEEN"
        if node != view.me.name and view.report_of(node) is None:
            text = f"no report from {node} for {silent_ms // 1000} s; what it has begun goes on there"
            limit_ms = AWAY_MS
        elif view.rebuilding(node):
            code, text = "BLK_REBUILDING", f"{node} is being made anew for somebody else, who came first"
            limit_ms = UNHEARD_MS
        else:
            text, limit_ms = f"{node} does not tell of it; `failoverctl status` shows how it stands", UNHEARD_MS
        if silent_ms <= limit_ms:
            return None
        return self._last(elapsed_ms, RequestEnded(self._asked.id, succeeded=False, code=code, reason=text))

    def _last(self, elapsed_ms: int, end: RequestEnded) -> doc.Event:
        text = "the new data are in place" if end.succeeded else end.reason
        saved = f"; what it had extra: {end.reason}" if end.succeeded and end.reason else ""
        return doc.Event(
            elapsed_ms=elapsed_ms,
            node=self._asked.node,
            text=text + saved,
            code=end.code,
            final=True,
            succeeded=end.succeeded,
            refused=end.refused,
        )


def _taken(view: View, node: NodeName) -> str:
    """The id of the request that `node` has taken and not ended, as it says now."""
    if node == view.me.name:
        return view.rejoin.id if view.rejoin else ""
    report = view.report_of(node)
    return report.rejoining if report else ""


def _end_of(view: View, asked: Rejoin) -> RequestEnded | None:
    known = next((r.rejoin_ended for r in view.reports if r.sender == asked.node), None)
    found = view.rejoin_ended if asked.node == view.me.name else known
    return found if found is not None and found.id == asked.id else None


def facts_of(view: View, node: NodeName) -> RebuildFacts | None:
    """How far a node's newest rebuild is, as it told last."""
    if node == view.me.name:
        return view.rebuild
    return next((report.rebuild for report in view.reports if report.sender == node), None)


def status(view: View, node: NodeName) -> doc.RebuildStatus | None:
    """The same for the status document; None where there was none since that node's boot."""
    facts = facts_of(view, node)
    if facts is None and not view.rebuilding(node):
        return None
    if facts is None:
        return doc.RebuildStatus(under_way=True, stage="asked")
    return doc.RebuildStatus(
        under_way=view.rebuilding(node),
        stage=facts.stage,
        received=facts.received,
        expected=facts.expected,
        rate=facts.rate,
        left_ms=facts.left_s * 1000 if facts.left_s is not None else None,
        code=facts.code,
        reason=facts.reason,
        saved=facts.saved,
    )


class Progress:
    """What the followers of one rebuild have been told of it."""

    def __init__(self, node: NodeName, request: str) -> None:
        self._node = node
        self._request = request
        self._told: tuple[str, int] = ("", 0)

    def news(self, state: machine.State) -> list[tuple[NodeName, str]]:
        """(node, words) for each stage that began, and for each tenth of the stream."""
        facts = facts_of(state.view, self._node)
        if facts is None or facts.request != self._request:
            return []
        tenth = facts.received * 100 // facts.expected // _STEP if facts.expected else 0
        if (facts.stage, tenth) == self._told:
            return []
        self._told = (facts.stage, tenth)
        known = status(state.view, self._node)
        return [(self._node, known.words if known is not None else facts.stage)]
