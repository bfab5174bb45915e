"""Who may write what into the store's record: a swap that fits its version is still not anybody's to make.

    take the role     for oneself alone, and in the next term
    renew             the holder alone
    revoke            for oneself, or in one's own name (condemned)
    seal              whoever is asked for it by a person, once a move, and nothing is written after it (migration.py)
    reserve a place   anybody, for a record of another store, where nothing counts here
    all else          whoever is asked for it by a person: pauses, requests, an operator's word

The store asks this of each swap with the name that the certificate has, so that neither a message that was long on its
way, nor a node that is broken or not what it says it is, moves the role to somebody else or keeps another's lease.
"""

from __future__ import annotations

from failoverd.core.model import NodeName, Record


def older(standing: Record, wanted: Record) -> str:
    """How `wanted` goes back; "" where it does not."""
    if wanted.moves < standing.moves:
        return f"a record that was moved {wanted.moves} times, and it is {standing.moves} now"
    if wanted.term < standing.term:
        return f"a record of term {wanted.term}, and it is {standing.term} now"
    if wanted.term == standing.term and wanted.counter < standing.counter:
        return f"renewal {wanted.counter} of term {wanted.term}, and it is {standing.counter} now"
    return ""


def reserves(standing: Record, wanted: Record) -> bool:
    """Whether `wanted` is a place for a record of another store, where nothing counts: none yet, or one that has left.

    Only for a move that comes after all that were made from here, or that another place was reserved for.
    """
    return wanted.is_place and wanted.moves > standing.moves and (standing.version == 0 or standing.sealed)


def improper(standing: Record, wanted: Record, asker: NodeName) -> str:
    """Why `asker` may not put `wanted` in the place of `standing`; "" where it may."""
    return _moved(standing, wanted, asker) or _improper(standing, wanted, asker)


def _moved(standing: Record, wanted: Record, asker: NodeName) -> str:
    if standing.sealed:
        return f"{asker} writes what is sealed: it counts in another store"
    stays = (standing.moves, standing.moved_to, False)
    if (wanted.moves, wanted.moved_to, wanted.sealed) != stays and not _seals(standing, wanted):
        return f"{asker} goes from move {standing.moves} to {wanted.moves}"
    return ""


def _improper(standing: Record, wanted: Record, asker: NodeName) -> str:
    if wanted.term > standing.term:
        return _takeover(standing, wanted, asker)
    if wanted.holder != standing.holder:
        return f"{asker} gives term {standing.term} of {standing.holder} to {wanted.holder}"
    if wanted.counter != standing.counter and asker != standing.holder:
        return f"{asker} renews the lease of {standing.holder}"
    if wanted.revoked != standing.revoked and standing.holder is not None and asker != standing.holder:
        return f"{asker} gives back the lease of {standing.holder}"
    if wanted.condemned_by != standing.condemned_by and (standing.condemned_by or wanted.condemned_by != asker):
        return f"{asker} revokes the lease of {standing.holder} in the name of {wanted.condemned_by}"
    return ""


def _takeover(standing: Record, wanted: Record, asker: NodeName) -> str:
    if wanted.term != standing.term + 1:
        return f"{asker} goes from term {standing.term} to {wanted.term}"
    if wanted.holder != asker:
        return f"{asker} makes {wanted.holder} the primary"
    return ""


def _seals(standing: Record, wanted: Record) -> bool:
    named = wanted.moved_to not in ("", standing.moved_to)
    once = wanted.moves == standing.moves + 1 and wanted.term == standing.term > 0
    return wanted.sealed and named and once
