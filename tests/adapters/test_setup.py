"""`failoverctl init` and `join` beside three real servers: nothing without being shown, all of it once, and no more."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql
import pytest
import setup_stage as stage
import yaml
from mariadb_servers import Server, copies, in_step, make_template, private_network, wait_for

from failoverd import tls
from failoverd.config import load
from failoverd.core.model import Health, SettingsFacts
from failoverd.ctl.exits import Exit
from failoverd.databases.mariadb import MariaDb
from failoverd.setup import grants, look_database, steps
from failoverd.setup.certificates import Authority
from failoverd.setup.issued import Place
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

SLOW_MS = 8000


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with private_network() as root:
        directory = tmp_path_factory.mktemp("template")
        yield make_template(root, directory), root


@pytest.fixture(scope="module")
def servers(template: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    data, root = template
    found = copies(data, root, tmp_path_factory.mktemp("servers"), list(stage.NODES))
    try:
        for server in found:
            server.start(f"--report-host={server.address}")  # they all share one loopback
        stage.as_an_administrator(found)
        yield found
    finally:
        for server in found:
            server.kill()


@pytest.fixture
def primary(servers: list[Server]) -> Iterator[Server]:
    """Give the primary, and take back what a test has made there: the others follow."""
    first, *others = servers
    yield first
    first.run(
        "DROP DATABASE IF EXISTS failoverd",
        "DROP USER IF EXISTS 'failoverd'@'localhost', 'failoverd_repl'@'10.89.1.%'",
    )
    for other in others:
        in_step(first, other)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "failoverd")


@pytest.fixture
def answers(tmp_path: Path, servers: list[Server]) -> Path:
    """Tell what cannot be found where no mail runs."""
    (tmp_path / "mail-ca.pem").write_bytes(Authority.create("mail", dt.datetime.now(dt.UTC)).pem)
    canary = tmp_path / "canary"
    canary.write_text("canary-password\n")
    canary.chmod(0o600)
    told = {
        "cluster": "lab",
        "nodes": stage.NODES,
        "arbiter": {"arbiter": "10.89.1.14"},
        "vip": "10.89.1.100/24",
        "mail_store": "/srv/mail",
        "server_name": "mail.lab.test",
        "mail_ca": str(tmp_path / "mail-ca.pem"),
        "canary": "canary@lab.test",
        "canary_password_file": str(canary),
        "database_socket": servers[0].socket,
    }
    path = tmp_path / "answers.yaml"
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    return path


def init(primary: Server, place: Place, answers: Path, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ("--answers", str(answers), "--directory", str(place.directory), "--no-start", *more)
    return stage.run(primary, primary, "init", *arguments)


def test_a_dry_run_shows_all_and_changes_nothing(primary: Server, place: Place, answers: Path, tmp_path: Path) -> None:
    files, accounts = stage.checksums(tmp_path), stage.accounts(primary)
    shown = init(primary, place, answers, "--dry-run")
    assert shown.returncode == Exit.DONE, shown.stderr
    assert (stage.checksums(tmp_path), stage.accounts(primary)) == (files, accounts)
    for line in (
        f"new      {place.authority}/ca.key   secret, mode 0600",
        f"new      {place.archives}/mail2.join   secret, mode 0600",
        "+  mail2: {kind: data, address: 10.89.1.12, priority: 90}",
        "CREATE USER 'failoverd'@'localhost' IDENTIFIED BY PASSWORD '***';",
        "GRANT REPLICATION SLAVE ON *.* TO 'failoverd_repl'@'10.89.1.%';",
        "dry run: nothing was changed",
    ):
        assert line in shown.stdout, shown.stdout


def test_it_sets_up_what_failoverd_itself_can_use(
    primary: Server, servers: list[Server], place: Place, answers: Path
) -> None:
    done = init(primary, place, answers, "--yes")
    assert done.returncode == Exit.DONE, done.stdout + done.stderr
    config = load(place.config, "mail1")
    passwords = [(place.secrets / name).read_text().strip() for name in ("database", "replication")]
    assert passwords[0] != passwords[1]
    assert not [secret for secret in passwords if secret in done.stdout + done.stderr]
    for server in servers:
        if server is not primary:
            in_step(primary, server)
        database = MariaDb(server.socket, "failoverd", passwords[0], "failoverd_repl", passwords[1], 3306)
        reading = database.settings(deadline_ms=SLOW_MS)
        assert isinstance(reading.facts, SettingsFacts), reading
        assert database.status(deadline_ms=SLOW_MS).health is Health.OK
        database.close()
    beat = MariaDb(primary.socket, config.database.user, passwords[0], "failoverd_repl", passwords[1], 3306)
    assert beat.beat(term=1, beat=1, deadline_ms=SLOW_MS).code == ""
    beat.close()
    tls.server_context(ca=config.peer.ca, certificate=config.peer.certificate, key=config.peer.key)
    assert sorted(path.name for path in place.archives.iterdir()) == ["arbiter.join", "mail2.join", "mail3.join"]


def test_the_replicas_can_log_in_by_the_account_that_was_made(primary: Server, place: Place, answers: Path) -> None:
    init(primary, place, answers, "--yes")
    password = (place.secrets / "replication").read_text().strip()
    found = pymysql.connect(host=primary.address, user="failoverd_repl", password=password, ssl_disabled=True)
    found.close()


def test_a_second_run_has_nothing_to_change(primary: Server, place: Place, answers: Path, tmp_path: Path) -> None:
    assert init(primary, place, answers, "--yes").returncode == Exit.DONE
    before = stage.checksums(tmp_path), stage.accounts(primary)
    again = init(primary, place, answers, "--yes")
    assert again.returncode == Exit.DONE, again.stderr
    assert "nothing to change" in again.stdout
    assert (stage.checksums(tmp_path), stage.accounts(primary)) == before


def test_a_changed_answer_changes_what_follows_from_it_and_keeps_the_old_file(
    primary: Server, place: Place, answers: Path
) -> None:
    init(primary, place, answers, "--yes")
    old, key = place.config.read_text(), (place.tls / "node.key").read_bytes()
    changed = init(primary, place, answers, "--yes", "--vip", "10.89.1.101/24")
    assert changed.returncode == Exit.DONE, changed.stderr
    assert "-vip: {address: 10.89.1.100/24, interface: lo}" in changed.stdout
    assert "+vip: {address: 10.89.1.101/24, interface: lo}" in changed.stdout
    assert (place.directory / "failoverd.yaml.before").read_text() == old
    assert (place.tls / "node.key").read_bytes() == key
    assert "CREATE" not in changed.stdout


def test_rights_that_are_missing_are_given_again_and_another_password_is_set(
    primary: Server, place: Place, answers: Path
) -> None:
    init(primary, place, answers, "--yes")
    good = stage.accounts(primary)
    primary.run(
        "REVOKE BINLOG REPLAY ON *.* FROM 'failoverd'@'localhost'",
        "ALTER USER 'failoverd'@'localhost' IDENTIFIED BY 'other'",
        "DELETE FROM failoverd.heartbeat",
    )
    again = init(primary, place, answers, "--yes")
    assert "ALTER USER 'failoverd'@'localhost' IDENTIFIED BY PASSWORD '***';" in again.stdout
    assert again.stdout.count("GRANT") == 1
    assert stage.accounts(primary) == good
    assert primary.run("SELECT id FROM failoverd.heartbeat") == [{"id": 1}]


def test_a_step_that_fails_keeps_what_was_done_and_the_next_run_finishes(
    primary: Server, place: Place, answers: Path
) -> None:
    in_the_way = place.directory / ".failoverd.yaml.new"
    in_the_way.mkdir(parents=True)
    failed = init(primary, place, answers, "--yes")
    assert failed.returncode == Exit.FAILED
    assert "SETUP_STEP: " in failed.stderr
    assert not place.config.exists()
    secrets = {path.name: path.read_text() for path in place.secrets.iterdir()}
    in_the_way.rmdir()
    done = init(primary, place, answers, "--yes")
    assert done.returncode == Exit.DONE, done.stderr
    assert "CREATE" not in done.stdout  # the accounts were made by the first run
    assert {path.name: path.read_text() for path in place.secrets.iterdir()} == secrets


@pytest.mark.parametrize("step", ["Looking at", "ca/ca.key", "statements on the database", "join/arbiter.join"])
def test_killed_at_any_step_the_next_run_finishes(primary: Server, place: Place, answers: Path, step: str) -> None:
    arguments = ("--answers", str(answers), "--directory", str(place.directory), "--no-start", "--yes")
    command = stage.on(primary, primary, "init", *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert any(("done" in line or "Looking" in line) and step in line for line in process.stdout)
        process.kill()
    done = init(primary, place, answers, "--yes")
    assert done.returncode == Exit.DONE, done.stderr
    load(place.config, "mail1")
    assert "nothing to change" in init(primary, place, answers, "--yes").stdout
    assert not list(place.directory.rglob(".*"))


def test_on_a_replica_it_is_refused_and_says_where_the_primary_is(
    servers: list[Server], place: Place, answers: Path, tmp_path: Path
) -> None:
    before = stage.checksums(tmp_path)
    refused = init(servers[1], place, answers, "--yes", "--database-socket", servers[1].socket)
    assert refused.returncode == Exit.REFUSED
    assert "SETUP_WRONG_HOST" in refused.stderr  # mail1's address is here as well, and the host is mail2
    assert "it replicates from 10.89.1.11; allowed: the primary" in refused.stderr
    assert stage.checksums(tmp_path) == before


def test_a_setting_that_blocks_is_refused_with_its_code(primary: Server, place: Place, answers: Path) -> None:
    primary.run("SET GLOBAL sync_binlog = 0")
    try:
        refused = init(primary, place, answers, "--yes")
    finally:
        primary.run("SET GLOBAL sync_binlog = 1")
    assert refused.returncode == Exit.REFUSED
    assert "SET_SYNC_BINLOG: sync_binlog = 0; allowed: 1: the binary log is not on disk" in refused.stderr
    assert not place.directory.exists()


def test_the_account_that_replicas_use_is_not_given_another_password(
    primary: Server, place: Place, answers: Path, tmp_path: Path
) -> None:
    user, password = stage.OWN_REPLICATION
    refused = init(primary, place, answers, "--yes", "--replication-user", user)
    assert refused.returncode == Exit.REFUSED
    assert "SETUP_ACCOUNT: 'repl'@'10.89.1.%': replicas are connected by it" in refused.stderr
    assert not place.directory.exists()
    known = tmp_path / "repl"
    known.write_text(password)
    known.chmod(0o600)
    done = init(primary, place, answers, "--yes", "--replication-user", user, "--replication-password-file", str(known))
    assert done.returncode == Exit.DONE, done.stderr
    assert load(place.config, "mail1").database.replication_user == user


def test_an_account_for_every_host_gets_one_for_the_nodes_with_its_own_password(primary: Server) -> None:
    user, password = stage.OWN_REPLICATION
    local = grants.Login("failoverd", "localhost", "x")
    with look_database.session(primary.socket) as connection:
        known = grants.Login(user, "192.0.2.%", password)
        shown = [each.shown for each in grants.missing(connection, local=local, replicas=[known], connected={user})]
        assert "CREATE USER 'repl'@'192.0.2.%' IDENTIFIED BY PASSWORD '***'" in shown
        other = grants.Login(user, "192.0.2.%", "other")
        with pytest.raises(Refused, match="SETUP_ACCOUNT"):
            grants.missing(connection, local=local, replicas=[other], connected={user})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vip": "10.89.1.100"}, "answers.yaml:8: vip: value '10.89.1.100': has no prefix length; allowed: a literal"),
        ({"vpi": "10.89.1.100/24"}, "answers.yaml:15: vpi: unknown key, did you mean vip?; allowed: cluster, nodes"),
        ({"nodes": {"mail1": "mail1.test"}}, "nodes.mail1: value 'mail1.test': is no IPv4 address"),
        ({"vip": "10.89.1.12/24"}, "vip.address: value '10.89.1.12/24': is the address of node mail2"),
        ({"arbiter": {"arbiter": "10.89.1.13"}}, "is the address of mail3 as well; allowed: an address of its own"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_place(
    primary: Server, place: Place, answers: Path, change: dict[str, object], words: str
) -> None:
    told = yaml.safe_load(answers.read_text()) | change
    answers.write_text(yaml.safe_dump(told, sort_keys=False))
    refused = init(primary, place, answers, "--yes")
    assert refused.returncode == Exit.REFUSED
    assert words in refused.stderr
    assert not place.directory.exists()


def test_without_an_answer_it_says_which_are_needed(primary: Server, place: Place) -> None:
    arguments = ("--directory", str(place.directory), "--database-socket", primary.socket, "--yes")
    refused = stage.run(primary, primary, "init", *arguments)
    assert refused.returncode == Exit.USAGE
    for key in ("--arbiter  NAME=ADDRESS", "--vip  ADDRESS/PREFIX", "--canary  a mailbox of its own"):
        assert key in refused.stderr
    assert not place.directory.exists()


def test_a_person_is_asked_what_cannot_be_found(primary: Server, place: Place, tmp_path: Path, answers: Path) -> None:
    told = yaml.safe_load(answers.read_text())
    replies = [
        ("Name of the cluster [mail]:", "lab"),
        ("Data nodes:", "mail1=10.89.1.11 mail2"),
        ("Data nodes:", " ".join(f"{name}={address}" for name, address in stage.NODES.items())),
        ("Arbiter:", "arbiter=10.89.1.14"),
        ("Virtual IP", "10.89.1.100/24"),
        ("Interface for it [lo]:", ""),
        ("Mail store", "/srv/mail"),
        ("Name of the mail services", "mail.lab.test"),
        ("CA of their certificate", told["mail_ca"]),
        ("Canary mailbox:", "canary@lab.test"),
        ("Replication account [failoverd_repl]:", ""),
        ("Do it? [y/N]:", "n"),
    ]
    arguments = ("--directory", str(place.directory), "--database-socket", primary.socket, "--no-start")
    before = stage.checksums(tmp_path)
    code, screen = stage.dialogue(primary, primary, replies, "init", *arguments)
    assert (code, stage.checksums(tmp_path)) == (Exit.REFUSED, before), screen
    assert "value 'mail2': has no =; allowed: NAME=ADDRESS" in screen
    agreed = [*replies[:-1], ("Do it? [y/N]:", "y")]
    code, screen = stage.dialogue(primary, primary, agreed, "init", *arguments)
    assert code == Exit.DONE, screen
    assert load(place.config, "mail1").vip.address == "10.89.1.100"
    assert "doveadm pw" in screen  # the canary's password was made


# ---- units and the virtual IP ----------------------------------------------------------------------------------


@pytest.fixture
def units(primary: Server) -> Iterator[Path]:
    place = stage.units(primary)
    yield place
    shutil.rmtree(place)
    subprocess.run(["ip", "address", "del", "10.89.1.100/24", "dev", "lo"], check=False, capture_output=True)


def start(primary: Server, place: Place, answers: Path) -> subprocess.CompletedProcess[str]:
    arguments = ("--answers", str(answers), "--directory", str(place.directory), "--yes")
    return stage.run(primary, primary, "init", *arguments)


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_the_units_are_enabled_and_started_and_the_virtual_ip_is_taken_once(
    primary: Server, place: Place, answers: Path, units: Path
) -> None:
    done = start(primary, place, answers)
    assert done.returncode == Exit.DONE, done.stderr
    assert "ip address add 10.89.1.100/24 dev lo   # nobody has it yet" in done.stdout
    assert names(units / "enabled") == {*steps.ENABLED, *steps.STARTED}
    assert names(units / "active") == set(steps.STARTED)
    shown = subprocess.run(["ip", "address", "show", "dev", "lo"], check=True, capture_output=True, text=True).stdout
    assert "10.89.1.100/24" in shown
    assert "nothing to change" in start(primary, place, answers).stdout


def test_a_unit_that_does_not_start_is_told_and_tried_again(
    primary: Server, place: Place, answers: Path, units: Path
) -> None:
    (units / "fails" / "failoverd.service").touch()
    failed = start(primary, place, answers)
    assert failed.returncode == Exit.FAILED
    assert "failoverd.service: Job for failoverd.service failed." in failed.stderr
    (units / "fails" / "failoverd.service").unlink()
    again = start(primary, place, answers)
    assert again.returncode == Exit.DONE, again.stderr
    assert "done  systemctl start failoverd.service" in again.stdout
    assert "Files:" not in again.stdout


def test_where_failoverd_is_not_installed_nothing_is_written(
    primary: Server, place: Place, answers: Path, units: Path
) -> None:
    (units / "known" / "failoverd-guard.service").unlink()
    accounts = stage.accounts(primary)
    refused = start(primary, place, answers)
    assert refused.returncode == Exit.REFUSED
    assert "SETUP_NOT_READY: failoverd-guard.service: systemd does not know it; allowed: failoverd's" in refused.stderr
    assert not place.directory.exists()
    assert stage.accounts(primary) == accounts


def test_an_address_that_another_machine_answers_for_is_refused(primary: Server, place: Place, answers: Path) -> None:
    with subprocess.Popen(["unshare", "--net", "sleep", "600"]) as other:
        try:
            lines = (
                f"ip link add vip0 type veth peer name vip1 netns {other.pid}",
                "ip address add 10.89.2.1/24 dev vip0",
                "ip link set vip0 up",
                f"nsenter --net=/proc/{other.pid}/ns/net ip address add 10.89.2.100/24 dev vip1",
                f"nsenter --net=/proc/{other.pid}/ns/net ip link set vip1 up",
            )
            wait_for(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "sleep\n", name="the other machine")
            for line in lines:
                subprocess.run(line.split(), check=True)
            given = ("--yes", "--interface", "vip0", "--vip")
            taken = init(primary, place, answers, *given, "10.89.2.100/24")
            free = init(primary, place, answers, *given, "10.89.2.101/24", "--dry-run")
        finally:
            other.kill()
    assert taken.returncode == Exit.REFUSED
    assert "SETUP_VIP_TAKEN: vip: 10.89.2.100: " in taken.stderr
    assert "answers for it on vip0; allowed: an address that only this host has" in taken.stderr
    assert not place.directory.exists()
    assert free.returncode == Exit.DONE, free.stderr


# ---- join -------------------------------------------------------------------------------------------------------


@pytest.fixture
def archives(primary: Server, servers: list[Server], place: Place, answers: Path) -> Path:
    done = init(primary, place, answers, "--yes")
    assert done.returncode == Exit.DONE, done.stderr
    for server in servers[1:]:
        in_step(primary, server)
    return place.archives


def join(host: Server, primary: Server, archive: Path, there: Place, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = (str(archive), "--directory", str(there.directory), "--no-start", *more)
    return stage.run(host, primary, "join", *arguments)


def test_a_data_node_joins_once(servers: list[Server], archives: Path, tmp_path: Path) -> None:
    there = Place(tmp_path / "mail2/etc")
    archive = archives / "mail2.join"
    shown = join(servers[1], servers[0], archive, there, "--dry-run")
    assert shown.returncode == Exit.DONE, shown.stderr
    assert not there.directory.exists()
    done = join(servers[1], servers[0], archive, there, "--yes")
    assert done.returncode == Exit.DONE, done.stderr
    context = tls.client_context(
        ca=there.tls / "ca.crt", certificate=there.tls / "node.crt", key=there.tls / "node.key"
    )
    assert context.get_ca_certs()
    before = stage.checksums(there.directory)
    again = join(servers[1], servers[0], archive, there, "--yes")
    assert "nothing to change" in again.stdout
    assert stage.checksums(there.directory) == before


def test_the_arbiter_joins_without_a_database_and_its_passwords(
    servers: list[Server], archives: Path, tmp_path: Path
) -> None:
    there = Place(tmp_path / "arbiter/etc")
    arbiter = Server("arbiter", servers[0].root, servers[0].directory)
    refused = join(arbiter, servers[0], archives / "arbiter.join", there, "--yes")
    assert refused.returncode == Exit.REFUSED  # 10.89.1.14 is not here
    assert "SETUP_WRONG_HOST: arbiter has 10.89.1.14, and this host has 10.89.1.11" in refused.stderr
    subprocess.run(["ip", "address", "add", "10.89.1.14/32", "dev", "lo"], check=True)
    try:
        done = join(arbiter, servers[0], archives / "arbiter.join", there, "--yes")
    finally:
        subprocess.run(["ip", "address", "del", "10.89.1.14/32", "dev", "lo"], check=True)
    assert done.returncode == Exit.DONE, done.stderr
    assert [path.name for path in there.secrets.iterdir()] == ["canary"]


def test_on_another_host_it_is_refused(servers: list[Server], archives: Path, tmp_path: Path) -> None:
    there = Place(tmp_path / "etc")
    refused = join(servers[2], servers[0], archives / "mail2.join", there, "--yes")
    assert refused.returncode == Exit.REFUSED
    assert "the archive is for mail2, and this host is called 'mail3'" in refused.stderr
    assert not there.directory.exists()


def test_a_replica_that_does_not_receive_is_refused(servers: list[Server], archives: Path, tmp_path: Path) -> None:
    there = Place(tmp_path / "etc")
    servers[1].run("STOP SLAVE")
    try:
        refused = join(servers[1], servers[0], archives / "mail2.join", there, "--yes")
    finally:
        servers[1].run("START SLAVE")
        wait_for(lambda: servers[1].slave()["Slave_IO_Running"] == "Yes", name="mail2 to receive")
    assert refused.returncode == Exit.REFUSED
    assert "SETUP_NOT_READY: database: it does not receive from 10.89.1.11" in refused.stderr
    assert not there.directory.exists()


def test_the_archive_of_another_cluster_is_refused(servers: list[Server], archives: Path, tmp_path: Path) -> None:
    there = Place(tmp_path / "etc")
    there.tls.mkdir(parents=True)
    (there.tls / "ca.crt").write_bytes(Authority.create("other", dt.datetime.now(dt.UTC)).pem)
    before = stage.checksums(there.directory)
    refused = join(servers[1], servers[0], archives / "mail2.join", there, "--yes")
    assert refused.returncode == Exit.REFUSED
    assert "SETUP_ARCHIVE: " in refused.stderr
    assert "belongs to another cluster" in refused.stderr
    assert stage.checksums(there.directory) == before
