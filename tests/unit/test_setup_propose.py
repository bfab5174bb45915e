"""What is found and answered, into what the configuration says: tables, nothing is looked at."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from failoverd.setup import answers, obstacles, propose, written
from failoverd.setup.answers import Answers
from failoverd.setup.found import DatabaseFound, Found, HostAddress, MailFound, Replica
from failoverd.setup.issued import Place

RUNBOOK = Path(__file__).parents[2] / "runbooks/install.md"
DATABASE = DatabaseFound(
    version="10.11.14-MariaDB",
    read_only=False,
    socket="/run/mysqld/mysqld.sock",
    port=3306,
    directory="/var/lib/mysql",
    binlog="mysqld-bin",
    acknowledge=2,
    replicas=(Replica("192.0.2.12", "mail2"), Replica("192.0.2.13", "mail3")),
)
MAIL = MailFound(
    store="/srv/mail",
    store_type="nfs4",
    names=("mail.example.org",),
    authority="/etc/ssl/mail.pem",
    smtp_starttls=True,
    networks="127.0.0.0/8 192.0.2.0/24 [::1]/128",
)
FOUND = Found(
    host="mail1",
    addresses=(HostAddress("eth0", "192.0.2.11", 24), HostAddress("eth0", "192.0.2.100", 24)),
    units=dict.fromkeys(("dovecot.service", "postfix@-.service", "mariadb.service"), "active"),
    ports=frozenset({22, 25, 143, 587, 993, 3306}),
    programs=frozenset({"postsuper", "postcat", "postconf", "doveadm", "mariadb-backup"}),
    mail=MAIL,
    database=DATABASE,
)
LEAST = answers.of({"arbiter": {"arbiter": "192.0.2.14"}, "canary": "canary@example.org"})


def settled(found: Found = FOUND, given: Answers = LEAST) -> propose.Cluster:
    return propose.settle(found, given)


def test_only_the_arbiter_and_the_canary_have_to_be_told() -> None:
    with pytest.raises(propose.MissingError) as missing:
        propose.settle(FOUND, Answers())
    assert list(missing.value.keys) == ["arbiter", "canary"]


def test_the_rest_is_found_and_each_says_where_it_comes_from() -> None:
    cluster = settled()
    assert cluster.nodes == {"mail1": "192.0.2.11", "mail2": "192.0.2.12", "mail3": "192.0.2.13"}
    assert (cluster.me, cluster.vip, cluster.interface) == ("mail1", "192.0.2.100/24", "eth0")
    assert (cluster.mail_store, cluster.server_name, cluster.mail_ca) == (
        "/srv/mail", "mail.example.org", "/etc/ssl/mail.pem",
    )  # fmt: skip
    assert cluster.ports == (25, 143, 587, 993, 3306)
    assert cluster.queue
    assert cluster.sources == {
        "arbiter": "answered",
        "canary": "answered",
        "cluster": "default",
        "nodes": "this host, and who replicates from it",
        "vip": "on eth0 of this host already",
        "interface": "has 192.0.2.11",
        "mail_store": "Dovecot's mail_location",
        "server_name": "the certificate of the mail services",
        "mail_ca": "verifies that certificate",
        "replication_user": "default",
    }


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"database": "DB_REFUSED: no"}, "nodes"),
        ({"database": replace(DATABASE, replicas=(Replica("192.0.2.12"),))}, "nodes"),
        ({"addresses": FOUND.addresses[:1]}, "vip"),
        ({"mail": replace(MAIL, store="")}, "mail_store"),
        ({"mail": replace(MAIL, names=("*.example.org",))}, "server_name"),
        ({"mail": replace(MAIL, authority="")}, "mail_ca"),
    ],
)
def test_what_cannot_be_found_is_asked(change: dict[str, Any], missing: str) -> None:
    with pytest.raises(propose.MissingError) as error:
        propose.settle(replace(FOUND, **change), LEAST)
    assert list(error.value.keys) == [missing]
    assert error.value.keys[missing]


@pytest.mark.parametrize(
    ("change", "imap", "smtp"),
    [
        ({}, (993, "implicit"), "starttls"),
        ({"ports": frozenset({25, 143})}, (143, "starttls"), "starttls"),
        ({"ports": frozenset()}, (993, "implicit"), "starttls"),
        ({"mail": replace(MAIL, smtp_starttls=False)}, (993, "implicit"), "none"),
        ({"mail": replace(MAIL, smtp_starttls=None)}, (993, "implicit"), "starttls"),
    ],
)
def test_how_the_services_are_reached(change: dict[str, Any], imap: tuple[int, str], smtp: str) -> None:
    cluster = settled(replace(FOUND, **change))
    assert ((cluster.imap.port, cluster.imap.tls), cluster.smtp.tls) == (imap, smtp)
    assert {cluster.imap.port, cluster.smtp.port, cluster.port} <= set(cluster.ports)


BLOCKERS = [
    ({}, {}, []),
    ({"host": "mx"}, {"nodes": {"mail1": "192.0.2.11", "mail2": "192.0.2.12"}}, ["SETUP_WRONG_HOST"]),
    ({"addresses": (HostAddress("eth0", "198.51.100.1", 24),)},
     {"nodes": {"mail1": "192.0.2.11"}, "vip": "192.0.2.100/24", "interface": "eth0"},
     ["SETUP_WRONG_HOST", "SETUP_NOT_READY"]),
    ({"database": "DB_AUTH: no"}, {"nodes": {"mail1": "192.0.2.11"}}, ["SETUP_NOT_READY"]),
    ({"database": replace(DATABASE, read_only=True)}, {}, ["SETUP_NOT_READY"]),
    ({"database": replace(DATABASE, source="192.0.2.12")}, {}, ["SETUP_NOT_READY"]),
    ({}, {"nodes": {"mail1": "192.0.2.11", "mail2": "192.0.2.12", "mail9": "192.0.2.19"}}, ["SETUP_NOT_READY"]),
    ({"database": replace(DATABASE, findings=(("SET_SYNC_BINLOG", "sync_binlog = 0; allowed: 1"),))}, {},
     ["SET_SYNC_BINLOG"]),
    ({"database": replace(DATABASE, findings=(("SET_INIT_ROLE", "it is not in its files"),))}, {}, []),
]  # fmt: skip


@pytest.mark.parametrize(("change", "given", "codes"), BLOCKERS)
def test_what_stands_in_the_way(change: dict[str, Any], given: dict[str, object], codes: list[str]) -> None:
    found, answered = replace(FOUND, **change), LEAST.with_others(answers.of(given))
    blockers = list(obstacles.blockers(found, propose.settle(found, answered)))
    assert [code for code, _ in blockers] == codes
    assert all(words for _, words in blockers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"units": {"keepalived.service": "active", **FOUND.units}}, "keepalived.service is active"),
        ({"units": {**FOUND.units, "dovecot.service": "failed"}}, "dovecot.service is failed"),
        ({"mail": replace(MAIL, store_type="ext4")}, "/srv/mail is on ext4"),
        ({"programs": FOUND.programs - {"mariadb-backup"}}, "there is no mariadb-backup"),
        ({"mail": replace(MAIL, networks="127.0.0.0/8")}, "mynetworks has not all nodes"),
        ({"database": replace(DATABASE, acknowledge=1)}, "1 of 2 replicas acknowledge"),
        ({"database": replace(DATABASE, findings=(("SET_INIT_ROLE", "not there"),))}, "SET_INIT_ROLE: not there"),
    ],
)
def test_what_should_be_mended(change: dict[str, Any], words: str) -> None:
    found = replace(FOUND, **change)
    assert [told for told in obstacles.warnings(found, settled(found)) if words in told]
    assert not [told for told in obstacles.warnings(FOUND, settled()) if words in told]


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("nodes", "mail1", "value 'mail1': has no =; allowed: NAME=ADDRESS"),
        ("nodes", "a=192.0.2.1 a=192.0.2.2", "value 'a=192.0.2.2': is named twice; allowed: NAME=ADDRESS"),
        ("nodes", "mail1=mail1.test", "nodes.mail1: value"),
        ("arbiter", "a=192.0.2.1 b=192.0.2.2", "arbiter: the list is too long; allowed: 1 at most"),
        ("vip", "192.0.2.100", "vip: value '192.0.2.100': has no prefix length; allowed: a literal IPv4 address"),
        ("replication_user", "x'; DROP", 'replication_user: value "x\'; DROP": is not well-formed; allowed: letters'),
        ("mail_ca", "/nowhere/ca", "mail_ca: value '/nowhere/ca': cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_answer_is_told_with_what_is_allowed(key: str, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as wrong:
        propose.parsed(key, text)
    assert words.removesuffix("value") in str(wrong.value)


def test_the_runbook_has_every_key_and_an_example_that_is_read(tmp_path: Path) -> None:
    page = RUNBOOK.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`) \|", page, re.MULTILINE)
    keys = {field.alias or name for name, field in Answers.model_fields.items()}
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == keys
    (tmp_path / "canary").write_text("secret")
    (tmp_path / "canary").chmod(0o600)
    example = re.findall(r"^```yaml\n(.+?)^```", page, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "cluster.yaml").write_text(example.replace("/root/canary", str(tmp_path / "canary")))
    assert propose.settle(FOUND, answers.read(tmp_path / "cluster.yaml")).arbiter == ("arbiter", "10.89.1.14")


def test_what_is_written_is_yaml_whatever_the_values_are(tmp_path: Path) -> None:
    cluster = replace(
        settled(), cluster="no", mail_store="/srv/mail: #1, {x}", canary="1e3", data="/data/mysql", binlog="bin"
    )
    place = Place(tmp_path / "a b")
    document = yaml.safe_load(written.config(cluster, place, "/etc/ssl/ca, x.pem"))
    assert document["cluster"] == "no"
    assert document["mail_store"]["path"] == "/srv/mail: #1, {x}"
    assert document["services"]["imap"]["user"] == "1e3"
    assert document["services"]["smtp"]["ca"] == "/etc/ssl/ca, x.pem"
    assert document["peer"]["key"] == str(place.tls / "node.key")
    assert document["rebuild"] == {"data": "/data/mysql", "binlog": "bin"}
    assert document["disks"]["write"] == ["/data/mysql", "/srv/mail: #1, {x}"]
    assert [node["priority"] for name, node in document["nodes"].items() if name != "arbiter"] == [100, 90, 80]


def test_where_the_database_lies_as_usual_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert "rebuild" not in yaml.safe_load(written.config(settled(), Place(tmp_path), "/ca"))
