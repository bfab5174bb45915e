"""Many clusters on one etcd: all of them seen at once, and each kept from the others by a role of its own.

    access    whose rights: the file of who looks at all clusters, or gives one its place (/etc/failoverd/fleet.yaml)

    reading   every cluster's record as it is now
    watched   pure: look after look ──> whose lease is being renewed, whose is silent, and for how long at least
    looking   the looks, until that is known of each
    states    pure: a record and its lease ──> one word, worst first, and why

    roles     pure: what etcd has of a cluster's user and role, what it shall have ──> statement by statement
    granting  looks that up, and carries it out

No daemon loads it, and nothing here is in a lease's way. It writes users and roles, and removes what is told to go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every code that it refuses with. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "FLEET_RIGHTS": "a user or role of that name in etcd has other rights than a cluster's",
    "FLEET_PASSWORD": "etcd has the cluster's user already, and its password is not known here",
    "FLEET_ALIVE": "the cluster that shall go is alive: its lease is being renewed",
}
