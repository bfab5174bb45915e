"""Pure: what was found and what was answered, into what the configuration will say, and where each of it comes from.

ASKED   a row a key: the question, and how a default is found
settle  every key by its answer, else by its default; MissingError names those that have neither
blockers, warnings   what must, or should, be mended first
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.setup import answers
from failoverd.setup.answers import Answers
from failoverd.setup.found import DatabaseFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from failoverd.setup.found import Found

CLIENTS = (24, 25, 110, 143, 465, 587, 993, 995, 4190)  # ports that mail programs and servers use; LMTP is 24
REPLICATION_USER = "failoverd_repl"
QUEUE_PROGRAMS = {"postsuper", "postcat", "postconf", "doveadm"}
HIGHEST, STEP = 100, 10  # priorities: this node's, and how much less each further one has

Default = tuple[str, str]  # the value as text, "" where there is none; and where it comes from, or a hint


@dataclass(frozen=True, slots=True)
class Asked:
    """One key of `Answers` that is asked for."""

    key: str
    question: str
    default: Callable[[Found, Answers], Default]


@dataclass(frozen=True, slots=True)
class Service:
    """How a mail service is reached."""

    unit: str
    port: int
    tls: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """All that `written` needs. `sources`: where each key's value comes from."""

    cluster: str
    me: str
    nodes: Mapping[str, str]
    arbiter: tuple[str, str]
    vip: str
    interface: str
    imap: Service
    smtp: Service
    server_name: str
    mail_ca: str
    canary: str
    replication_user: str
    mail_store: str
    socket: str
    port: int
    database_unit: str
    data: str
    binlog: str
    ports: tuple[int, ...]
    queue: bool
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def members(self) -> dict[str, str]:
        """Every node's address, the arbiter last."""
        return {**self.nodes, self.arbiter[0]: self.arbiter[1]}


class MissingError(Exception):
    """Keys that neither were answered nor could be found out, each with a hint."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.keys = keys
        super().__init__("; ".join(f"{key}: {hint}" if hint else key for key, hint in keys.items()))


# ---- the defaults -----------------------------------------------------------------------------------------------


def _cluster(_found: Found, _answers: Answers) -> Default:
    return "mail", "default"


def _nodes(found: Found, _answers: Answers) -> Default:
    """This host and those that replicate from it, where all of them have names."""
    database = found.database
    if not isinstance(database, DatabaseFound) or not found.addresses:
        return "", "NAME=ADDRESS of each mail server, three or more"
    named = {found.host: _own_address(found)}
    for replica in database.replicas:
        named[replica.name] = replica.address
    if "" in named or len(named) != len(database.replicas) + 1 or not database.replicas:
        known = ", ".join([f"{found.host}={_own_address(found)}", *(replica.address for replica in database.replicas)])
        return "", f"NAME=ADDRESS of each mail server; here, and replicating from here: {known}"
    text = " ".join(f"{name}={address}" for name, address in named.items())
    return text, "this host, and who replicates from it"


def _own_address(found: Found) -> str:
    """The first one: an address that is added, such as a virtual one, comes after it."""
    return found.addresses[0].address


def _arbiter(_found: Found, _answers: Answers) -> Default:
    return "", "NAME=ADDRESS of a machine that holds no mail"


def _vip(found: Found, answered: Answers) -> Default:
    taken = set((answered.nodes or {}).values()) or {_own_address(found)} if found.addresses else set()
    extra = [each for each in found.addresses if each.address not in taken]
    if len(extra) == 1:
        return f"{extra[0].address}/{extra[0].prefix}", f"on {extra[0].interface} of this host already"
    return "", "ADDRESS/PREFIX that clients know, such as 192.0.2.100/24"


def _interface(found: Found, answered: Answers) -> Default:
    own = [_own_address(found)] if found.addresses else []
    for address in [*(answered.nodes or {}).values(), *own]:
        entry = found.address_of(address)
        if entry is not None:
            return entry.interface, f"has {address}"
    return "", "the interface that has this host's address"


def _mail_store(found: Found, _answers: Answers) -> Default:
    return found.mail.store, "Dovecot's mail_location" if found.mail.store else "the directory with all mailboxes"


def _server_name(found: Found, _answers: Answers) -> Default:
    name = next((name for name in found.mail.names if "*" not in name), "")
    return name, "the certificate of the mail services" if name else "the name by which clients know the mail services"


def _mail_ca(found: Found, _answers: Answers) -> Default:
    ca = found.mail.authority
    return ca, "verifies that certificate" if ca else "a file with the CA of the mail services' certificate"


def _canary(_found: Found, _answers: Answers) -> Default:
    return "", "a mailbox of its own for the probes, such as canary@example.org"


def _replication_user(_found: Found, _answers: Answers) -> Default:
    return REPLICATION_USER, "default"


ASKED: tuple[Asked, ...] = (
    Asked("cluster", "Name of the cluster", _cluster),
    Asked("nodes", "Data nodes", _nodes),
    Asked("arbiter", "Arbiter", _arbiter),
    Asked("vip", "Virtual IP", _vip),
    Asked("interface", "Interface for it", _interface),
    Asked("mail_store", "Mail store", _mail_store),
    Asked("server_name", "Name of the mail services", _server_name),
    Asked("mail_ca", "CA of their certificate", _mail_ca),
    Asked("canary", "Canary mailbox", _canary),
    Asked("replication_user", "Replication account", _replication_user),
)


def unanswered(answered: Answers) -> Iterator[Asked]:
    """What is still to be asked, in order."""
    return (asked for asked in ASKED if getattr(answered, asked.key) is None)


def parsed(key: str, text: str) -> Answers:
    """One answer, as a person or an option gives it. Raises ValueError with what is allowed."""
    value: object = answers.members(text) if key in {"nodes", "arbiter"} else text
    return answers.of({key: value})


def _taken(key: str, text: str) -> Answers:
    """A default. A file that was found is not read again: nothing is looked at here."""
    return Answers().model_copy(update={key: Path(text)}) if key == "mail_ca" else parsed(key, text)


# ---- all of it --------------------------------------------------------------------------------------------------


def settle(found: Found, answered: Answers) -> Cluster:
    """Every key by its answer, else its default. Raises MissingError; ValueError for a default that is none."""
    sources = dict.fromkeys(answered.model_fields_set, "answered")
    missing: dict[str, str] = {}
    for asked in ASKED:
        if getattr(answered, asked.key) is not None:
            continue
        text, said = asked.default(found, answered)
        if text:
            answered = answered.with_others(_taken(asked.key, text))
            sources[asked.key] = said
        else:
            missing[asked.key] = said
    if missing:
        raise MissingError(missing)
    nodes, arbiter = dict(answered.nodes or {}), dict(answered.arbiter or {})
    database = found.database if isinstance(found.database, DatabaseFound) else None
    imap = _imap(found)
    smtp = Service("postfix@-.service", 25, "none" if found.mail.smtp_starttls is False else "starttls")
    port = database.port if database else 3306
    used = {imap.port, smtp.port, port}
    return Cluster(
        cluster=str(answered.cluster),
        me=next((name for name, address in nodes.items() if found.address_of(address)), ""),
        nodes=nodes,
        arbiter=next(iter(arbiter.items())),
        vip=str(answered.vip),
        interface=str(answered.interface),
        imap=imap,
        smtp=smtp,
        server_name=str(answered.server_name),
        mail_ca=str(answered.mail_ca),
        canary=str(answered.canary),
        replication_user=str(answered.replication_user),
        mail_store=str(answered.mail_store),
        socket=str(answered.database_socket or (database.socket if database else "")),
        port=port,
        database_unit=_unit(found, ("mariadb.service", "mysql.service", "mysqld.service")),
        data=database.directory if database else "",
        binlog=database.binlog if database else "",
        ports=tuple(sorted(used | (found.ports & set(CLIENTS)))),
        queue=found.programs >= QUEUE_PROGRAMS and _lets_in(found.mail.networks, nodes.values()),
        sources=sources,
    )


def _unit(found: Found, names: tuple[str, ...]) -> str:
    """The first that is there, an active one before others; Debian's where systemd knows none."""
    known = [name for name in names if name in found.units]
    return next((name for name in known if found.units[name] == "active"), (known or list(names))[0])


def _imap(found: Found) -> Service:
    unit = _unit(found, ("dovecot.service",))
    return (
        Service(unit, 143, "starttls")
        if 143 in found.ports and 993 not in found.ports
        else Service(unit, 993, "implicit")
    )


def _lets_in(networks: str, addresses: Iterable[str]) -> bool:
    """Whether Postfix's mynetworks has every address: then held mail can be handed on to the primary."""
    allowed = []
    for word in networks.replace(",", " ").split():
        try:
            allowed.append(ipaddress.IPv4Network(word.strip("[]"), strict=False))
        except ValueError:
            continue  # IPv6, or a table
    return all(any(ipaddress.IPv4Address(address) in network for network in allowed) for address in addresses)
