"""What the network can do to one host: the cable pulled, and single peers no longer heard.

A refusal to hear lives in the host's own network namespace, in an nftables table of its own (`inet lab`; failoverd
owns `inet failoverd`), before connection tracking. It is set from outside, so it works on a frozen host as well.
"""

from __future__ import annotations

from . import containers, layout, network
from .shell import LabError, run

_TABLE = """
add table inet lab
add set inet lab denied { type ipv4_addr; }
add chain inet lab input { type filter hook input priority -300; policy accept; }
flush chain inet lab input
add rule inet lab input ip saddr @denied drop
"""


def cut(host: str) -> None:
    """Pull the host's cable; it stays pulled across boots until `heal`."""
    note = layout.RUN / f"{host}.cut"
    note.touch()
    if containers.pid(host) is not None:
        network.leave(host)


def heal(host: str) -> None:
    """Plug the host's cable in."""
    (layout.RUN / f"{host}.cut").unlink(missing_ok=True)
    if containers.pid(host) is not None:
        network.join(host)


def is_cut(host: str) -> bool:
    """Tell whether the host's cable is pulled."""
    return (layout.RUN / f"{host}.cut").exists()


def deny(host: str, peers: list[str]) -> None:
    """Let the host no longer hear these peers (hosts, `vip`, `client` or addresses), besides those denied before."""
    if not peers:
        raise LabError("deny: whom should it no longer hear?")
    addresses = ", ".join(layout.address_of(peer) for peer in peers)
    _nft(host, f"{_TABLE}add element inet lab denied {{ {addresses} }}\n")


def allow(host: str) -> None:
    """Let the host hear everybody again."""
    _nft(host, "table inet lab\ndelete table inet lab\n")


def denied(host: str) -> list[str]:
    """Give the addresses that the host does not hear."""
    shown = run(
        "nsenter",
        "-t",
        str(containers.running_pid(host)),
        "-n",
        "nft",
        "list",
        "set",
        "inet",
        "lab",
        "denied",
        check=False,
    ).stdout
    _, _, rest = shown.partition("elements = {")
    return [word.strip() for word in rest.partition("}")[0].split(",") if word.strip()]


def _nft(host: str, script: str) -> None:
    run("nsenter", "-t", str(containers.running_pid(host)), "-n", "nft", "-f", "-", stdin=script)
