"""Setting a cluster up: `failoverctl init` on the present primary, `failoverctl join` on the other nodes.

    look ──> Found ──┐                                           ┌──> files, put all together (files)
    answers ─────────┤── propose ──> Proposal ── planned ──> Plan ┼──> SQL on the primary (grants)
                     └── (pure) ───────┘         (shown first)   └──> commands (steps)

look          what runs here: units, ports, addresses; look_mail and look_database ask those services themselves
found         the same as values
answers       the file that answers instead of a person, with the same keys as the options
propose       pure: what was found and what was answered, into values that each say where they come from
obstacles     pure: what must, or should, be mended first
written       pure: those values as the one configuration file
staged        that file, read by the real loader before it is put in place
certificates  the cluster's own CA and what it signs; issued: what is kept of that
grants        accounts and tables: what is missing of config/grants-mariadb.sql
bundle        one archive a node: all that `join` needs there
planned       the plan of `init`; joined: the same for one of the other nodes; shown: as text
files, steps  how a plan is carried out: all to temporary names first, and each step so that it can be done again

Nothing is written before the whole plan was shown and confirmed, nothing is left half-done that a second run does not
finish, and nothing here moves the role: a cluster that runs is adopted by failoverd itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every code that it refuses with. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "SETUP_NOT_READY": "what runs here is not yet what failoverd can keep",
    "SETUP_VIP_TAKEN": "another machine answers for the address that is to be the virtual IP",
    "SETUP_WRONG_HOST": "this host is not the node that it is to become",
    "SETUP_ARCHIVE": "the archive for this node cannot be used",
    "SETUP_AUTHORITY": "the cluster's certificate authority is not there, or is another one",
    "SETUP_ACCOUNT": "an account of the database is in use, and its password is not known here",
    "SETUP_STEP": "a step did not work, and a second run goes on from there",
}
