"""The facts of the lab: names, addresses, passwords, places. Everything else asks here.

The shipped example `config/failoverd.yaml` is written for exactly these, so the lab installs it as it stands.
"""

from __future__ import annotations

from pathlib import Path

DATA_NODES = ("mail1", "mail2", "mail3")
ARBITER = "arbiter"
HOSTS = (*DATA_NODES, ARBITER)
SPARE = "mail4"  # a mail server that is no member: set up like the others, its database empty; off until it is wanted
ADDRESSES = {
    "mail1": "10.89.1.11",
    "mail2": "10.89.1.12",
    "mail3": "10.89.1.13",
    "arbiter": "10.89.1.14",
    "mail4": "10.89.1.15",
}
VIP = "10.89.1.100"
CLIENT = "10.89.1.200"
PREFIX = 24
FIRST_PRIMARY = "mail1"

DOMAIN = "lab.test"
MAIL_NAME = "mail.lab.test"
CANARY = f"canary@{DOMAIN}"
USERS = tuple(f"user{number}@{DOMAIN}" for number in range(1, 21))
# Who gets the client's mail. Not one mailbox for all: twenty writers a second wait for each other's locks there, and
# once they are late, those whose client has given up keep all others late.
SMTP_USERS, IMAP_USERS = USERS[:10], USERS[10:]
# Whom drills simulate: several people to an account, as families of programs of one person are.
DRILL_USERS = tuple(f"drill{number}@{DOMAIN}" for number in range(1, 51))
# The lab's passwords are public: its network ends at its bridge.
CANARY_PASSWORD = "canary-lab-password"
USER_PASSWORD = "lab-password"
APP_USER, APP_PASSWORD = "app", "app-lab-password"
DATABASE_PASSWORD = "database-lab-password"
DRILL_PASSWORD = "drill-lab-password"
REPLICATION_USER, REPLICATION_PASSWORD = "failoverd_repl", "replication-lab-password"

TREE = Path(__file__).resolve().parents[3]
FILES = Path(__file__).resolve().parents[1] / "files"
CACHE = Path("/var/cache/failoverd-lab")
STATE = Path("/var/lib/failoverd-lab")
RUN = Path("/run/failoverd-lab")

BRIDGE_NETNS = "failoverd-lab"
CLIENT_NETNS = "failoverd-lab-client"
BRIDGE = "br0"
CGROUP = "failoverd-lab"
BUILD_CGROUP = "failoverd-lab-build"

VMAIL_ID = 5000


def address_of(name: str) -> str:
    """Give the address of a host, of `vip` or of `client`; a literal address is its own."""
    known = {**ADDRESSES, "vip": VIP, "client": CLIENT}
    if name in known:
        return known[name]
    if name.count(".") == 3 and name.replace(".", "").isdigit():
        return name
    raise ValueError(f"{name!r} is neither an address nor one of {', '.join(known)}")


# Where a test lays a change of failoverd.service that a reboot, or the next test, takes back.
DROP_IN = "/run/systemd/system/failoverd.service.d"
