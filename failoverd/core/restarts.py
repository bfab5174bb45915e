"""A unit's restart, and from when on what is seen says something of the service as it is now.

    looks of an observer   ──x──────x──────x──     ──┬──────(slow: up to its patience)──────✓──
    restart                            begins  ends  └ began after it
                                                │<── settle ──>│<── until enough have looked anew, or the most ──>│

A look that began before says nothing, and a service that has just started is slow: an observer goes on saying "down"
until its next look has ended, which may be longer than the service needs. A connection that is refused ends a look at
once, so that what does not come back is judged as soon as before.
"""

from __future__ import annotations

from failoverd.core.known import Restart
from failoverd.core.model import Health, NodeName
from failoverd.core.quorum import Tally, Vote, tally
from failoverd.core.view import View

# Of one observer, in a row: the first more may be of a look that was under way as the restart ended, the second not.
ANEW = 2


def failures_told(view: View, service: str) -> tuple[tuple[NodeName, int], ...]:
    """How many looks at `service` of this node have failed in a row, for each observer, as it told last."""
    key = (service, view.me.name)
    claims = ((report.sender, report.claims_by_name.get(key)) for report in view.reports)
    return tuple((sender, claim.failures) for sender, claim in claims if claim is not None)


def too_fresh(view: View, restart: Restart, unit: str) -> bool:
    """What is seen of the service may still be what it was before `restart`, or while it came up."""
    if restart.ended_ms is None:
        return True
    if not restart.worked:
        return False
    if not view.reached(restart.ended_ms + view.policy.restart_settle_ms):
        return True
    if view.reached(restart.ended_ms + view.policy.restart_look_ms):
        return False  # observers whose counts began anew meanwhile, or who are silent: no reason to wait on
    return not _failed_anew(view, restart, unit)


def database_too_fresh(view: View, service: str) -> bool:
    """`service` asks the database, which was started just now, by whomever.

    What it answered before was no word of its own, and a restart would end deliveries in the middle, so that their
    mails come twice.
    """
    if service not in {name for name, _, _ in view.policy.services} or view.catch_up is None:
        return False
    return not view.reached(view.catch_up.seen_ms + view.policy.restart_settle_ms)


def _failed_anew(view: View, restart: Restart, unit: str) -> bool:
    """Looks that began after the restart have failed: this node's own at the unit or server, or enough observers'."""
    own = view.sighting("database" if restart.service == "database" else f"unit:{unit}", view.me.name)
    if own is not None and own.health is Health.FAILED:
        began_ms = own.observation.ended_ms - own.observation.took_ms
        if began_ms >= (restart.ended_ms or 0):
            return True
    before, now = dict(restart.failures_told), dict(failures_told(view, restart.service))
    votes = [
        vote if now.get(name, 0) >= before.get(name, 0) + ANEW else Vote.UNKNOWN
        for name, vote in view.votes(restart.service, view.me.name).items()
    ]
    return tally(votes, len(view.nodes) - 1) is Tally.WON
