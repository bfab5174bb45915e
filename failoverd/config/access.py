"""Who may ask the daemon for what: by user and group on the node itself, from elsewhere by a certificate's name."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from failoverd.config.section import Section
from failoverd.config.values import Port, ReadableFile, pattern, unique

RoleName = Literal["view", "operate", "administer"]
Account = Annotated[
    str,
    pattern(r"[A-Za-z_][^\x00-\x20\x7f:,/]{0,63}", "the name of a user or a group, not a number"),
]
Accounts = Annotated[tuple[Account, ...], Field(strict=False, max_length=64), AfterValidator(unique("name"))]
Person = Annotated[
    str, pattern(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,47}", "the CN of a certificate: letters, digits and ._@+-, at most 48")
]


class Admitted(Section):
    """Who has a role on the node itself. Names are looked up at the start and at a reload."""

    users: Accounts = ()
    groups: Accounts = ()


class Remote(Section):
    """The listener for failoverctl from elsewhere. `ca` None: that of the nodes, peer.ca."""

    enabled: bool = False
    port: Port = 7403
    ca: ReadableFile | None = None
    people: dict[Person, RoleName] = Field(default_factory=dict, max_length=256)

    def authority(self, peer_ca: Path) -> Path:
        """Whose certificates are looked at; `peer_ca` is that of the nodes."""
        return self.ca or peer_ca


class Access(Section):
    """Three roles, each with what the one before has. root, and the daemon's own user, administer in any case."""

    view: Admitted = Admitted()
    operate: Admitted = Admitted()
    administer: Admitted = Admitted()
    remote: Remote = Remote()
