"""What the host that signs keeps of each certificate: a copy, so that it can be renewed without the node's key.

/etc/failoverd/ca/ca.crt ca.key         the authority
/etc/failoverd/ca/issued/NAME.crt       what it has signed last for NAME, a node or a person
/etc/failoverd/tls/ca.crt node.crt …    what this node shows
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.setup import certificates
from failoverd.setup.files import File, existing, put
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from failoverd.setup.certificates import Authority


@dataclass(frozen=True, slots=True)
class Place:
    """Where things lie below the configuration's directory."""

    directory: Path

    @property
    def authority(self) -> Path:
        """The CA's own files."""
        return self.directory / "ca"

    @property
    def tls(self) -> Path:
        """What this node shows to others, and by what it knows them."""
        return self.directory / "tls"

    @property
    def secrets(self) -> Path:
        """A password a file."""
        return self.directory / "secrets"

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.directory / "failoverd.yaml"

    @property
    def archives(self) -> Path:
        """What is carried to the other nodes."""
        return self.directory / "join"

    def issued(self, name: str) -> Path:
        """The copy of what was signed last for `name`."""
        return self.authority / "issued" / f"{name}.crt"


def authority(place: Place) -> Authority:
    """The CA that lies here. Raises Refused."""
    found = certificates.Authority.read(place.authority)
    if found is None:
        allowed = "the host on which failoverctl init was run, or --directory"
        raise Refused("SETUP_AUTHORITY", str(place.authority), "there is no ca.crt", allowed=allowed)
    return found


def issue(place: Place, name: str, now: dt.datetime, *, address: str) -> tuple[Path, Path]:
    """Sign NAME.crt on a new NAME.key, a node's where it has an address; gives where both lie.

    Raises Refused, OSError.
    """
    by = authority(place)
    made = by.node(name, address, now) if address else by.operator(name, now)
    path = place.issued(name)
    key = path.with_suffix(".key")
    put((File(key, made.key, secret=True), File(path, made.certificate)))
    return path, key


def renew(place: Place, name: str, now: dt.datetime) -> Path:
    """Sign anew what was signed for NAME, on the same key. It is put where this node shows it, where it is this one's.

    Gives where the copy lies. Raises Refused, OSError.
    """
    by, path = authority(place), place.issued(name)
    old = existing(path)
    if old is None:
        known = ", ".join(names(place)) or "none"
        raise Refused("SETUP_AUTHORITY", str(path), "nothing was signed for that name here", allowed=known)
    found = certificates.read_certificate(old[0], str(path))
    if not by.signed(found):
        allowed = "a new one: failoverctl certificate issue"
        raise Refused("SETUP_AUTHORITY", str(path), "was signed by another CA", allowed=allowed)
    said = certificates.shown(found)
    if said.name != name or (said.kind == "node") != bool(said.addresses):
        allowed = "a new one: failoverctl certificate issue"
        raise Refused("SETUP_AUTHORITY", str(path), f"is no certificate of {name}, with its address", allowed=allowed)
    if said.kind == "node":
        made = by.node(said.name, said.addresses[0], now, key=old[0])
    else:
        made = by.operator(said.name, now, key=old[0])
    shows = existing(place.tls / "node.crt")
    here = [File(place.tls / "node.crt", made.certificate)] if shows is not None and shows[0] == old[0] else []
    put((*here, File(path, made.certificate)))
    return path


def shown_here(place: Place, name: str) -> bool:
    """Whether this node shows what was signed last for NAME."""
    shows, copy = existing(place.tls / "node.crt"), existing(place.issued(name))
    return shows is not None and copy is not None and shows[0] == copy[0]


def names(place: Place) -> list[str]:
    """For whom something was signed here."""
    return sorted(path.stem for path in (place.authority / "issued").glob("*.crt"))
