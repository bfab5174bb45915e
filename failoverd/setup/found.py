"""What was found on this host, as values: `propose` reads them, `look` fills them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class HostAddress:
    """One IPv4 address of this host."""

    interface: str
    address: str
    prefix: int


@dataclass(frozen=True, slots=True)
class Replica:
    """A server that receives from this one; `name` by reverse look-up, "" where there is none."""

    address: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class DatabaseFound:
    """What the local server says of itself."""

    version: str
    read_only: bool
    socket: str
    port: int
    directory: str
    binlog: str  # the name that its binary logs begin with; "" without any
    source: str = ""  # whom it replicates from
    receiving: bool = False
    acknowledge: int = 0  # semi-synchronous replicas that are connected
    replicas: tuple[Replica, ...] = ()
    accounts: frozenset[str] = frozenset()  # by which they are connected
    findings: tuple[tuple[str, str], ...] = ()  # of its settings, as `failoverctl check` has them


@dataclass(frozen=True, slots=True)
class MailFound:
    """What Dovecot and Postfix say of themselves; "" is not known."""

    store: str = ""
    store_type: str = ""  # the file system that it is on
    names: tuple[str, ...] = ()  # that the certificate is good for
    authority: str = ""  # a file by which it is verified
    smtp_starttls: bool | None = None
    networks: str = ""  # Postfix's mynetworks


@dataclass(frozen=True, slots=True)
class Found:
    """All of it. `database` is text where it cannot be asked: why."""

    host: str
    addresses: tuple[HostAddress, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)  # ActiveState, by name; a unit that there is not is left out
    ports: frozenset[int] = frozenset()
    programs: frozenset[str] = frozenset()
    mail: MailFound = MailFound()
    database: DatabaseFound | str = "not asked"

    def address_of(self, address: str) -> HostAddress | None:
        """The interface's entry of one of this host's addresses."""
        return next((found for found in self.addresses if found.address == address), None)
