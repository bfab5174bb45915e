"""Which role each route of the control socket needs: one table. The daemon does not start with a route without a row.

    view        what changes nothing and asks nobody for anything
    operate     what a cluster is built for: to move the role without loss, work on nodes, practise a failover
    administer  what goes past a protection, or changes by what everything else is decided

Doubtful ones:
- `GET /v1/config`, `GET /v1/input`, `GET /v1/audit`: view. They hold no secret, and nothing is explained without them.
- `POST /v1/would-promote`: view. It only says what would come of it.
- `POST /v1/alerts/test`: operate. It wakes people up.
- `POST /v1/rejoin`: operate. It removes a database, but never the only one, and saves first what only that one has.
- `POST /v1/drill`: operate. What may be broken, and when, an administrator has settled in section `drill`.
- `POST /v1/confirm-fenced`: administer. An untrue word of it makes two primaries: it *is* the fence.
- `POST /v1/promote-forced`: administer. It gives up what clients were told is safe.
- `POST /v1/reload`: administer. The file says who has which role, too.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Role(IntEnum):
    """Each may do what the smaller ones may."""

    VIEW = 1
    OPERATE = 2
    ADMINISTER = 3

    @property
    def word(self) -> str:
        """As the configuration calls it."""
        return self.name.lower()


ROUTES: Mapping[str, Role] = {
    "GET /v1/status": Role.VIEW,
    "GET /v1/check": Role.VIEW,
    "GET /v1/history": Role.VIEW,
    "GET /v1/input": Role.VIEW,
    "GET /v1/audit": Role.VIEW,
    "GET /v1/audit/across": Role.VIEW,
    "GET /v1/audit/hashes": Role.VIEW,
    "GET /v1/version": Role.VIEW,
    "GET /v1/rejoin": Role.VIEW,
    "GET /v1/requests/{id}/events": Role.VIEW,
    "GET /v1/alerts": Role.VIEW,
    "GET /v1/config": Role.VIEW,
    "GET /v1/config/diff": Role.VIEW,
    "GET /v1/drills": Role.VIEW,
    "GET /v1/drills/{id}": Role.VIEW,
    "POST /v1/would-promote": Role.VIEW,
    "POST /v1/promote": Role.OPERATE,
    "POST /v1/schedule": Role.OPERATE,
    "POST /v1/cancel-scheduled": Role.OPERATE,
    "POST /v1/pause": Role.OPERATE,
    "POST /v1/resume": Role.OPERATE,
    "POST /v1/maintenance": Role.OPERATE,
    "POST /v1/acknowledge": Role.OPERATE,
    "POST /v1/rejoin": Role.OPERATE,
    "POST /v1/alerts/test": Role.OPERATE,
    "POST /v1/drill": Role.OPERATE,
    "POST /v1/drill/abort": Role.OPERATE,
    "POST /v1/promote-forced": Role.ADMINISTER,
    "POST /v1/confirm-fenced": Role.ADMINISTER,
    "POST /v1/reload": Role.ADMINISTER,
}
