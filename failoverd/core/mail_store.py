"""A mail store that only the primary has: what this node knows of it, and which of its steps are due.

Where every data node has the store at all times (`policy.store_moves` is False) none of this is ever asked. Where it
moves with the role, by mount or by a program of the operator's, so do the services that work on it: they are started
once it is here, and stopped before it is left.

    promotion   RELEASED ──take──> TAKEN ──start services──> IN_USE ──> the gate opens
    demotion    the gate is closed ──> IN_USE ──stop services──> QUIET ──release──> RELEASED ──> the term is given back

**Taken with the lease only.** A node takes it in a term that it holds, and a term begins only with the proof that the
former one is over: its lease has ended, or it was given back, or its holder's power is off. A node that has given back
has left the store: the term is not given back before. A taking that ends without the lease leaves UNKNOWN behind, and
whoever does not hold the lease and does not know of the store releases it, also a daemon that has just been started.

**Nothing of it is needed to close.** Gate and database are closed whatever becomes of the store. A store that cannot be
left keeps the term from being given back, so that the others wait for the lease's end, or have the power cut.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from failoverd.core.effects import StepKind

if TYPE_CHECKING:
    from failoverd.core.known import Known

LEAVING = (StepKind.STOP_SERVICES, StepKind.RELEASE_STORE)  # what each plan of a node without the lease has
STEPS = (StepKind.TAKE_STORE, StepKind.START_SERVICES, *LEAVING)
REFUSED = "STORE_HOOK_REFUSED"  # actions.CODES: to ask again would not help


class StoreState(Enum):
    """What this node knows of the mail store here."""

    UNKNOWN = "unknown"  # the daemon has just started, a step ended badly, or somebody's hand was there
    TAKEN = "taken"
    IN_USE = "in-use"  # and the services that work on it were started
    QUIET = "quiet"  # they are stopped; it may still be here
    RELEASED = "released"


HERE = (StoreState.TAKEN, StoreState.IN_USE)
QUIET = (StoreState.QUIET, StoreState.RELEASED)


def needed(known: Known, kind: StepKind, *, closed: bool) -> bool:
    """Whether the step `kind` is due, in a plan that has it. Nothing is left before the gate is `closed`."""
    state = known.mail_store
    if not known.policy.store_moves:
        return False
    match kind:
        case StepKind.TAKE_STORE:
            return state not in HERE
        case StepKind.START_SERVICES:
            return state is not StoreState.IN_USE
        case StepKind.STOP_SERVICES:
            return closed and state not in QUIET
        case StepKind.RELEASE_STORE:
            return closed and state is StoreState.QUIET
        case _:
            raise AssertionError(f"{kind} is no step of the mail store")


def after(state: StoreState, kind: StepKind, *, succeeded: bool, mine: bool) -> StoreState:
    """What is known once a step has ended. `mine`: this node holds the lease of the step's term."""
    match kind:
        case StepKind.TAKE_STORE:
            return StoreState.TAKEN if succeeded and mine else StoreState.UNKNOWN
        case StepKind.START_SERVICES if state is StoreState.TAKEN and mine:
            return StoreState.IN_USE if succeeded else state
        case StepKind.STOP_SERVICES if succeeded:
            return state if state in QUIET else StoreState.QUIET
        case StepKind.RELEASE_STORE if state is StoreState.QUIET:
            return StoreState.RELEASED if succeeded else state
        case _:
            return StoreState.UNKNOWN


def contradicted(known: Known, *, here: bool | None, service_runs: bool, began_ms: int) -> bool:
    """Whether a look at it, begun at `began_ms`, shows that it is not as this node's steps left it."""
    if began_ms < known.mail_store_ms:
        return False
    if known.mail_store in HERE:
        return here is False
    if known.mail_store is StoreState.RELEASED and here:
        return True
    return known.mail_store in QUIET and service_runs
