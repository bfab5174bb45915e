"""What setting up reads: answers and archives that a person hands over, certificates, what runs on the host."""

from __future__ import annotations

import functools
import json
import socket
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from places import directory, parts, place, saying, text, written
from target import Target

from failoverd.config import ConfigError
from failoverd.setup import answers, bundle, issued, joined, look_mail, obstacles, planned, propose, shown
from failoverd.setup import written as configured
from failoverd.setup.certificates import Authority, fits, read_certificate
from failoverd.setup.certificates import shown as shown_by
from failoverd.setup.files import File, put
from failoverd.setup.found import DatabaseFound, Found, HostAddress, MailFound, Replica
from failoverd.setup.issued import Place
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    from failoverd.setup.propose import Cluster

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DATABASE = DatabaseFound(
    version="10.11.14-MariaDB",
    read_only=True,
    socket="/run/mysqld/mysqld.sock",
    port=3306,
    directory="/var/lib/mysql",
    binlog="mysqld-bin",
    source="192.0.2.11",
    receiving=True,
    replicas=(Replica("192.0.2.12", "mail2"), Replica("192.0.2.13", "mail3")),
)
FOUND = Found(
    host="mail1",
    addresses=(HostAddress("eth0", "192.0.2.11", 24), HostAddress("eth0", "192.0.2.100", 24)),
    units={"dovecot.service": "active", "mariadb.service": "active"},
    ports=frozenset({25, 143, 993, 3306}),
    mail=MailFound(store="/srv/mail", store_type="nfs4", names=("mail.example.org",), networks="192.0.2.0/24"),
    database=replace(DATABASE, read_only=False, source="", receiving=False),
)
THERE = replace(FOUND, host="mail2", addresses=(HostAddress("ens3", "192.0.2.12", 24),), database=DATABASE)


@functools.cache
def _mail_ca() -> bytes:
    return Authority.create("mail", NOW).pem


@functools.cache
def _material() -> tuple[Cluster, Place, planned.Material]:
    """What `init` makes of the answers below."""
    where = Place(directory() / "setup")
    cluster = propose.settle(FOUND, answers.read(written("answers.yaml", _answers_made()[0])))
    return cluster, where, planned.material(cluster, answers.Answers(), where, NOW)


# ---- failoverctl init -----------------------------------------------------------------------------------------------


def _answers(data: bytes) -> object:
    """A file of answers: what is understood is written, and the loader reads the same in it."""
    answered = answers.read(written("answers.yaml", data))
    try:
        cluster = propose.settle(FOUND, answered)
    except (propose.MissingError, ValueError) as error:
        return str(error)
    list(shown.cluster(cluster))
    list(obstacles.blockers(FOUND, cluster))
    list(obstacles.warnings(FOUND, cluster))
    return _loaded(cluster)


def _loaded(cluster: Cluster) -> object:
    """No answer becomes another key: each stands in the file as it was given, or is refused in the loader's words."""
    _, where, made = _material()
    made = replace(made, config=configured.config(cluster, where, "/etc/ssl/mail.pem"))
    name = cluster.arbiter[0]
    each = planned._bundle(cluster, replace(made, issued={name: made.issued["arbiter"]}), name)
    try:
        config = joined.read(each, where)
    except (ValueError, Refused) as error:
        return str(error)
    assert (config.cluster, config.vip.interface) == (cluster.cluster, cluster.interface)
    assert str(config.mail_store.path) == cluster.mail_store
    assert config.services["imap"].server_name == cluster.server_name
    return config


def _answers_made() -> list[bytes]:
    ca = written("mail-ca.pem", _mail_ca())
    return [
        f"""cluster: lab
nodes: {{mail1: 192.0.2.11, mail2: 192.0.2.12, mail3: 192.0.2.13}}
arbiter: {{arbiter: 192.0.2.14}}
vip: 192.0.2.100/24
interface: eth0
mail_store: /srv/mail
server_name: mail.example.org
mail_ca: {ca}
canary: canary@example.org
replication_user: repl
""".encode(),
        b"arbiter: {arbiter: 192.0.2.14}\ncanary: canary@example.org\n",
    ]


def _options(data: bytes) -> object:
    """`KEY VALUE`, as an option or a person gives one."""
    key, _, value = text(data).partition(" ")
    name = key if key in propose.Answers.model_fields else "nodes"
    try:
        return propose.parsed(name, value)
    except ValueError as error:
        return str(error)


# ---- failoverctl join -----------------------------------------------------------------------------------------------


def _joined(data: bytes) -> object:
    """An archive, up to the plan of what would be done."""
    where = Place(place("joining"))
    path = written("mail2.join", data)
    path.chmod(0o600)
    given = bundle.read(path)
    assert all(str(word).isprintable() for word in (given.cluster, given.node, given.address, given.kind))
    given = joined.fitted(given, THERE)
    try:
        config = joined.read(given, where)
    except ValueError as error:
        return str(error)
    list(joined.warnings(given, THERE, config))
    list(joined.blockers(given, THERE, where, config, seen_a_term=False))
    plan = joined.plan(given, where, ())
    assert {file.path.parent for file in plan.first} <= {where.tls, where.secrets}
    put(plan.first)
    assert plan.last == joined.plan(given, where, ()).last
    return list(shown.plan(plan))


def _described(data: bytes) -> object:
    """The same with `data` for its manifest, the rest whole: a change in an archive seldom gets so far."""
    packed, block = _joined_made()[0], tarfile.BLOCKSIZE
    first = tarfile.TarInfo.frombuf(packed[:block], "utf-8", "strict")
    rest = packed[block + -(-first.size // block) * block :]
    first.size = len(data)
    return _joined(first.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % block) + rest)


def _configured(data: bytes) -> object:
    """The same with `data` for its configuration, and the digest of that."""
    given = bundle.unpacked(_joined_made()[0], "mail2.join")
    return _joined(replace(given, contents={**given.contents, bundle.CONFIG: data}).packed())


@functools.cache
def _joined_made() -> list[bytes]:
    cluster, _, made = _material()
    there = replace(made, config=made.config.replace(str(directory() / "setup"), str(directory() / "joining")))
    return [planned._bundle(cluster, there, name).packed() for name in ("mail2", "arbiter")]


def _manifest() -> dict[str, object]:
    packed, block = _joined_made()[0], tarfile.BLOCKSIZE
    return dict(json.loads(packed[block : block + tarfile.TarInfo.frombuf(packed[:block], "utf-8", "strict").size]))


# ---- certificates ---------------------------------------------------------------------------------------------------


def _certificate(data: bytes) -> object:
    """A file that is to hold a node's certificate: shown, compared, renewed; and as the CA's own."""
    _, _, made = _material()
    where = Place(place("certificates"))
    put([*made.authority.files(where.authority), File(where.issued("mail2"), data)])
    try:
        issued.renew(where, "mail2", NOW)
    except Refused as error:
        str(error).encode()
    fits(made.authority, data, data, name="mail2", address="192.0.2.12", now=NOW)
    put([File(where.authority / "ca.crt", data), File(where.authority / "ca.key", data)])
    try:
        authority = Authority.read(where.authority)
        assert authority is not None
        authority.node("mail2", "192.0.2.12", NOW)
    except Refused as error:
        str(error).encode()
    said = shown_by(read_certificate(data, "node.crt"))
    said.days(NOW)
    return said


def _mail_certificate(data: bytes) -> object:
    """What the mail services show: of any make."""
    path = written("mail.crt", data)
    found = look_mail.certificate_of(str(path))
    try:
        planned._authorities(path)
    except Refused as error:
        str(error).encode()
    return found


def _certificates_made() -> list[bytes]:
    _, _, made = _material()
    node = made.issued["mail2"]
    operator = made.authority.operator("anna", NOW)
    return [node.certificate, node.certificate + node.key, operator.certificate, made.authority.pem,
            b"".join(file.content for file in made.authority.files(Path()))]  # fmt: skip


# ---- what runs on the host ------------------------------------------------------------------------------------------


def _greeting(data: bytes) -> object:
    """What listens at port 25."""
    listener = socket.create_server(("127.0.0.1", 0))
    with saying(listener, data):
        return look_mail.starttls(listener.getsockname()[1])


def _printed(data: bytes) -> object:
    """What doveconf and postconf print: the mail store, and which networks are let in."""
    location, networks = parts(data, 2)
    store = look_mail.store_of(text(location))
    assert not store or store.startswith("/")
    return propose._lets_in(" ".join(text(networks).split()), ["192.0.2.11"])


TARGETS = [
    Target("answers-file", "answers to init", _answers, _answers_made, (ConfigError,)),
    Target("answers-option", "one answer", _options,
           lambda: [b"nodes mail1=192.0.2.11, mail2=192.0.2.12", b"vip 192.0.2.100/24", b"canary a@b", b"mail_ca /x"]),
    Target("join-archive", "an archive that init has made", _joined, _joined_made, (Refused,), 64 * 1024),
    Target("join-manifest", "what an archive says of itself", _described,
           lambda: [json.dumps(_manifest(), indent=1).encode()], (Refused,)),
    Target("join-configuration", "the configuration in an archive", _configured,
           lambda: [bundle.unpacked(_joined_made()[0], "x").contents[bundle.CONFIG]], (Refused,)),
    Target("certificate-file", "certificates and keys of the cluster", _certificate, _certificates_made, (Refused,)),
    Target("mail-certificate", "the certificate of the mail services", _mail_certificate, _certificates_made),
    Target("smtp-greeting", "what listens at port 25 of this host", _greeting,
           lambda: [b"220 mail ESMTP\r\n250-mail\r\n250-STARTTLS\r\n250 SIZE 1\r\n221 bye\r\n", b"421 no\r\n"]),
    Target("doveconf-init", "settings of Dovecot and Postfix", _printed,
           lambda: [b"maildir:/srv/mail/%d/%n/Maildir\n127.0.0.0/8 192.0.2.0/24 [::1]/128 hash:/etc/x",
                    b"mdbox:~/mail\n"]),
]  # fmt: skip
