"""The lab's wire: a bridge in a network namespace of its own, and a client host beside it.

    netns failoverd-lab:   br0 ── vb-mail1, vb-mail2, vb-mail3, vb-arbiter (each the outer end of a host's host0)
                            └──── vb-client ══ eth0 10.89.1.200 in netns failoverd-lab-client

Nothing here is joined to the machine's own network. A cable is pulled at the bridge (`nomaster`): the host keeps its
carrier, as with a dead switch. Power goes with the link down first, so that no reset leaves the dying host.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import layout
from .shell import LabError, run

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
BRIDGE_NS = Path("/run/netns") / layout.BRIDGE_NETNS
CLIENT_NS = Path("/run/netns") / layout.CLIENT_NETNS
BRIDGE_MAC = "02:89:01:00:00:01"
STRANGER_NETNS = "failoverd-lab-stranger"


def up() -> None:
    """Make both namespaces, the bridge and the client's cable."""
    client, bridge = layout.CLIENT_NETNS, layout.BRIDGE_NETNS
    run("ip", "netns", "add", bridge)
    run("ip", "netns", "add", client)
    run(
        "ip",
        "-n",
        bridge,
        "-batch",
        "-",
        stdin=(
            # An address of its own: otherwise it has that of some host's port, and another one when that host is lost.
            # Who knows the former one, for the power switch's, talks to nobody for seconds.
            f"link add {layout.BRIDGE} address {BRIDGE_MAC} type bridge forward_delay 0 mcast_snooping 0\n"
            f"link set {layout.BRIDGE} up\n"
            f"link add vb-client type veth peer name eth0 netns {client}\n"
            f"link set vb-client master {layout.BRIDGE} up\n"
        ),
    )
    run(
        "ip",
        "-n",
        client,
        "-batch",
        "-",
        stdin=(f"link set lo up\naddress add {layout.CLIENT}/{layout.PREFIX} dev eth0\nlink set eth0 up\n"),
    )


def down() -> None:
    """Remove both namespaces; what lives in them must have been ended."""
    places = (STRANGER_NETNS, layout.CLIENT_NETNS, layout.BRIDGE_NETNS)
    for name, path in ((name, Path("/run/netns") / name) for name in places):
        if path.exists():
            run("ip", "netns", "delete", name)


def stranger_up() -> None:
    """Put a machine on the wire that believes the virtual IP is its own, and says so to all."""
    name, bridge = STRANGER_NETNS, layout.BRIDGE_NETNS
    run("ip", "netns", "add", name)
    run("ip", "-n", bridge, "link", "add", "vb-stranger", "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "-n", bridge, "link", "set", "vb-stranger", "master", layout.BRIDGE, "up")
    own = f"link set lo up\naddress add {layout.VIP}/{layout.PREFIX} dev eth0\nlink set eth0 up\n"
    run("ip", "-n", name, "-batch", "-", stdin=own)
    run("nsenter", f"--net=/run/netns/{name}", "arping", "-q", "-A", "-c", "3", "-I", "eth0", layout.VIP, check=False)


def stranger_down() -> None:
    """Take the stranger off the wire."""
    run("ip", "-n", layout.BRIDGE_NETNS, "link", "delete", "vb-stranger", check=False)
    run("ip", "netns", "delete", STRANGER_NETNS, check=False)


def is_up() -> bool:
    """Tell whether the wire has been laid."""
    return BRIDGE_NS.exists() and CLIENT_NS.exists()


def link_exists(host: str) -> bool:
    """Tell whether the outer end of the host's cable is there."""
    return run("ip", "-n", layout.BRIDGE_NETNS, "link", "show", f"vb-{host}", check=False).returncode == 0


def link_is_joined(host: str) -> bool:
    """Tell whether the host's cable is in the switch."""
    shown = run("ip", "-n", layout.BRIDGE_NETNS, "link", "show", f"vb-{host}", check=False).stdout
    return f"master {layout.BRIDGE}" in shown


def join(host: str) -> None:
    """Put the host's cable into the switch."""
    run("ip", "-n", layout.BRIDGE_NETNS, "link", "set", f"vb-{host}", "master", layout.BRIDGE)


def leave(host: str) -> None:
    """Pull the host's cable out of the switch."""
    run("ip", "-n", layout.BRIDGE_NETNS, "link", "set", f"vb-{host}", "nomaster")


def silence(host: str) -> None:
    """Take the host's link down: nothing that it still sends while it dies is heard."""
    run("ip", "-n", layout.BRIDGE_NETNS, "link", "set", f"vb-{host}", "down", check=False)


def remove_link(host: str) -> None:
    """Remove what is left of a dead host's cable; its namespace may take a while to go by itself."""
    run("ip", "-n", layout.BRIDGE_NETNS, "link", "delete", f"vb-{host}", check=False)


@contextmanager
def namespace(path: Path | str) -> Iterator[None]:
    """Let the calling THREAD make its sockets in another network namespace; sockets stay where they were made."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        try:
            target = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise LabError("the lab is not up: its network is not there") from error
        try:
            if libc.setns(target, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")
        finally:
            os.close(target)
        try:
            yield
        finally:
            if libc.setns(home, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns back")
    finally:
        os.close(home)
