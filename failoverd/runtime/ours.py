"""The credentials of the node that a configuration is of: for the daemon, and for every other process that has some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.credentials import Credentials
from failoverd.refusals import Refusals

if TYPE_CHECKING:
    from failoverd.config import Config


def credentials_of(config: Config) -> Credentials:
    """What this node shows the others, and takes of them. Raises CredentialsError."""
    files, nodes = config.peer, {node.address: str(node.name) for node in config.nodes.values()}
    return Credentials(
        ca=files.ca,
        certificate=files.certificate,
        key=files.key,
        me=config.this.name,
        nodes=nodes,
        refusals=Refusals(nodes),
    )
