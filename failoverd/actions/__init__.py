"""What a node does to itself beside SQL: the kernel's gate and address, ARP, systemd units.

gate ─┬─ nft   libnftables in this process        units   jobs over D-Bus
      ├─ vip   the address, with a lifetime
      └─ arp   gratuitous ARP               mailstore   locks that a lost primary left
                                      mount, mailstore_hook   a store that moves with the role
queue ─┬─ handon    starts the program:        handing   hands on what a node that is no primary has
       └─ queue     held and released          queue_journal   what was tried, before it is
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
    "QUEUE_NO_TOOLS": "Postfix's queue cannot be held or handed on: a program is missing",
    "QUEUE_FAILED": "Postfix's queue could not be held, or not be released",
    "QUEUE_TIMEOUT": "postsuper did not end in time and was killed",
    "QUEUE_LEFT": "messages of the mail queue could not be handed on yet",
    "QUEUE_REFUSED": "the primary refuses messages of another node's mail queue for good",
    "QUEUE_NOT_EMPTY": "mail was still being delivered when a planned switchover went on",
    "QUEUE_WAITING": "mail waits in the queue of a node that is no primary",
    "QUEUE_CANCELLED": "the handing on of mail was ended: the node had something else to do",
    "STORE_LATE": "the lease was over before the mail store was taken: it is left again",
    "STORE_CANCELLED": "the mail store's step was ended, since this node has something else to do",
    "STORE_MOUNT_FAILED": "the mail store cannot be mounted or unmounted",
    "STORE_MOUNT_TIMEOUT": "the mail store was not mounted or unmounted in time",
    "STORE_MOUNT_RUNS": "an earlier mount or unmount of the mail store has not ended",
    "STORE_FOREIGN": "something else is mounted where the mail store belongs",
    "STORE_NO_MOUNTPOINT": "the directory that the mail store is mounted on does not exist",
    "STORE_NO_DEVICE": "the device of the mail store does not exist on this node",
    "STORE_BUSY": "a process uses the mail store, so that it cannot be unmounted",
    "STORE_HOOK_NOT_RUN": "the mail store's program cannot be started",
    "STORE_HOOK_FAILED": "the mail store's program says that it did not work",
    "STORE_HOOK_REFUSED": "the mail store's program says that this node cannot have the store",
    "STORE_HOOK_TIMEOUT": "the mail store's program did not end in time and was killed",
    "UNIT_JOB_FAILED": "systemd says that the unit's job failed",
    "UNIT_JOB_TIMEOUT": "systemd did not finish the unit's job in time",
    "UNIT_BUS": "systemd could not be asked over D-Bus",
}
