"""What must hold between section `access` and the rest: operators are no nodes, and their port is their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.config.error import wrong

if TYPE_CHECKING:
    from failoverd.config.model import Config


def check(config: Config) -> None:
    """Raise `wrong(...)` for the first relation that does not hold."""
    _people_are_no_nodes(config)
    if config.access.remote.enabled:
        _port_is_its_own(config)


def _people_are_no_nodes(config: Config) -> None:
    """A node's certificate must never be a person's: whoever has its key could give orders in that name."""
    for person in config.access.remote.people:
        if person in config.members:
            raise wrong("is a node of this file", "the name of a person", key=("access", "remote", "people", person))


def _port_is_its_own(config: Config) -> None:
    port = config.access.remote.port
    taken = {"peer.port": config.peer.port, "peer.rebuild_port": config.peer.rebuild_port}
    taken |= {"http.port": config.http.port} if config.http.enabled else {}
    taken |= {"drill.port": config.drill.port} if config.drill.enabled else {}
    for name, other in taken.items():
        if port == other:
            raise wrong(f"is {name} as well", "a port of its own", key=("access", "remote", "port"))
    if port in config.gate.ports:
        raise wrong(
            "is among gate.ports, which are closed on replicas", "a port of its own", key=("access", "remote", "port")
        )
