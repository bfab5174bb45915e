"""What the network can do to one host: the cable pulled, single peers no longer heard, packets lost at random.

A refusal to hear lives in the host's own network namespace, in an nftables table of its own (`inet lab`; failoverd
owns `inet failoverd`), before connection tracking. It is set from outside, so it works on a frozen host as well. Random
loss lives beside it for what the host hears, and at the switch's end of its cable for what it says.
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
        *_in_network_of(host),
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


def lose(host: str, percent: int) -> None:
    """Lose so many of 100 packets at random, in each direction; 0 ends it."""
    link = f"vb-{host}"
    said = f"table netdev lab_{host}\ndelete table netdev lab_{host}\n"
    heard = "table inet lab_loss\ndelete table inet lab_loss\n"
    if percent:
        drop = f"numgen random mod 100 < {percent} drop"
        said += (
            f"table netdev lab_{host} {{\n chain ingress {{\n"
            f'  type filter hook ingress device "{link}" priority 0; policy accept;\n  {drop}\n }}\n}}\n'
        )
        heard += (
            "table inet lab_loss {\n chain input {\n"
            f"  type filter hook input priority -301; policy accept;\n  {drop}\n }}\n}}\n"
        )
    if containers.pid(host) is not None:
        _nft(host, heard)
    run("nsenter", f"--net={network.BRIDGE_NS}", "nft", "-f", "-", stdin=said)


def _in_network_of(host: str) -> list[str]:
    """Give the command that enters the network of a host, or of the client."""
    if host == "client":
        return ["nsenter", f"--net={network.CLIENT_NS}"]
    return ["nsenter", "-t", str(containers.running_pid(host)), "-n"]


def _nft(host: str, script: str) -> None:
    run(*_in_network_of(host), "nft", "-f", "-", stdin=script)
