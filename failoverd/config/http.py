"""The public listener of a node: who may look, and where nginx's mail proxy is sent. Nothing can be changed by it."""

import ipaddress
from ipaddress import IPv4Network
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from failoverd.config.error import wrong
from failoverd.config.section import Section
from failoverd.config.values import HostName, Port, PrivateFile, ReadableFile, unique


def _network(value: object) -> IPv4Network:
    allowed = "a literal IPv4 network such as 192.0.2.0/24, or one address"
    try:
        interface = ipaddress.IPv4Interface(value if isinstance(value, str) else "")
    except ValueError:
        raise wrong("is no IPv4 network", allowed) from None
    if interface.ip != interface.network.network_address:
        raise wrong(f"is an address in {interface.network}", allowed)
    return interface.network


Networks = Annotated[
    tuple[Annotated[IPv4Network, BeforeValidator(_network)], ...],
    Field(strict=False, min_length=1, max_length=64),
    AfterValidator(unique("network")),
]


Names = Annotated[tuple[HostName, ...], Field(strict=False, max_length=64), AfterValidator(unique("name"))]


class MailPorts(Section):
    """Where nginx sends a session of each protocol, in plain text or with STARTTLS; None: by `services`."""

    imap: Port | None = None
    pop3: Port | None = None
    smtp: Port | None = None


class Http(Section):
    """Health, metrics, the API and the status page. `allow` None: the network of the VIP, and this host.

    `names`: by which names it may be asked for beside literal addresses, the nodes' names and localhost.
    """

    enabled: bool = True
    port: Port = 7480
    allow: Networks | None = None
    names: Names = ()
    certificate: ReadableFile | None = None
    key: PrivateFile | None = None
    mail: MailPorts = MailPorts()

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> Self:
        for there, other in (("certificate", "key"), ("key", "certificate")):
            if getattr(self, there) is not None and getattr(self, other) is None:
                raise wrong(f"key {other!r} is missing, and {there} is given", f"both, or neither: {other}: FILE")
        return self
