"""What a node does to itself beside SQL: the kernel's gate and address, ARP, systemd units.

gate ─┬─ nft   libnftables in this process        units   jobs over D-Bus
      ├─ vip   the address, with a lifetime
      └─ arp   gratuitous ARP               mailstore   locks that a lost primary left
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every code that an action can give. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "GATE_LATE": "the lease was over by the time the gate stood open: it was closed again",
    "GATE_NFT": "the kernel refused the gate's nftables rules",
    "GATE_CHANGED": "the closed gate was not as failoverd had left it, and was closed again",
    "VIP_NETLINK": "the kernel refused to change the virtual IP",
    "VIP_NO_INTERFACE": "the interface of the virtual IP does not exist",
    "ARP_NOT_SENT": "the virtual IP is here, but it could not be announced",
    "STORE_WALK_LONG": "the mail store is too large to be searched for locks in time",
    "STORE_UNREADABLE": "the mail store cannot be read",
    "UNIT_JOB_FAILED": "systemd says that the unit's job failed",
    "UNIT_JOB_TIMEOUT": "systemd did not finish the unit's job in time",
    "UNIT_BUS": "systemd could not be asked over D-Bus",
}
