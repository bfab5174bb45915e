"""`failoverctl fleet` against a real etcd with authentication: what it shows, what it gives, whom that keeps out."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
from click.testing import CliRunner, Result
from etcd_members import Members
from node_certificates import Authority, Files

from failoverd.core.model import NodeName, Record
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.stores.etcd import EtcdStore
from failoverd.stores.etcd_link import Endpoints
from failoverd.tls import store_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")
HELD = Record(term=7, holder=MAIL1, counter=1, ttl_ms=1500)
DENIED = "permission denied"
ROOT = "root-password"


@dataclass
class Place:
    """An etcd, and the files of whoever asks it."""

    members: Members
    certificate: Files
    directory: Path

    def file(self, user: str, password: str, **more: str) -> Path:
        """A fleet.yaml."""
        secret = self.directory / f"{user}.password"
        secret.write_text(password + "\n")
        secret.chmod(0o600)
        lines = ["store:", "  kind: etcd", f"  endpoints: {json.dumps(self.members.urls)}", f"  user: {user}"]
        lines += [f"  ca: {self.certificate.ca}", f"  certificate: {self.certificate.certificate}"]
        lines += [f"  key: {self.certificate.key}", f"  password_file: {secret}"]
        lines += [f"  {key}: {value}" for key, value in more.items()]
        path = self.directory / f"{user}.yaml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def fleet(self, *words: str, config: Path | None = None) -> Result:
        """Run `failoverctl fleet`, as etcd's root unless another file is given."""
        given = config or self.file("root", ROOT)
        return CliRunner().invoke(app, ["fleet", *words, "--config", str(given)], prog_name="failoverctl")

    def add(self, *words: str) -> Result:
        """`fleet add` without a question."""
        return self.fleet("add", *words, "--yes", "--passwords", str(self.passwords))

    @property
    def passwords(self) -> Path:
        """Where the users' passwords are kept."""
        return self.directory / "passwords"

    def password(self, user: str) -> str:
        """One of them."""
        return (self.passwords / user).read_text().strip()

    def store(self, cluster: str, user: str | None = None) -> EtcdStore:
        """A node's client of a cluster, with that user's rights or its own cluster's."""
        name = user or f"failoverd-{cluster}"
        context = store_context(
            ca=self.certificate.ca, certificate=self.certificate.certificate, key=self.certificate.key
        )
        password = ROOT if name == "root" else self.password(name)
        return EtcdStore(
            Endpoints(self.members.urls, context, name, password), 2000, cluster=cluster, prefix="/failoverd/"
        )

    def write(self, cluster: str, record: Record) -> None:
        """Put a record where there is none yet, as root."""

        async def writing() -> None:
            store = self.store(cluster, "root")
            assert (await store.compare_and_swap(0, record))[0]
            await store.close()

        asyncio.run(writing())


class Keeper:
    """A holder that renews, with its cluster's own rights, until it is told to end."""

    def __init__(self, place: Place, cluster: str, record: Record) -> None:
        self._place, self._cluster, self._record = place, cluster, record
        self._end = threading.Event()
        self._first = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._first.wait(10), self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(10)
        assert not self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._renewing())
        except BaseException as error:
            self._failed.append(error)
            raise

    async def _renewing(self) -> None:
        store, record = self._place.store(self._cluster), self._record
        try:
            while not self._end.is_set():
                done, stands = await store.compare_and_swap(record.version, record)
                assert done, stands
                record = replace(stands, counter=stands.counter + 1)
                self._first.set()
                await asyncio.sleep(0.1)
        finally:
            await store.close()


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Members, Files]]:
    directory = tmp_path_factory.mktemp("etcd")
    authority = Authority(directory)
    members = Members(directory / "members", authority, version="3.5")
    members.start()
    members.enable_auth(ROOT)
    yield members, authority.nameless("operator")
    members.close()


@pytest.fixture
def place(members: tuple[Members, Files], tmp_path: Path) -> Place:
    etcd, certificate = members
    etcd.etcdctl("del", "--prefix", "/failoverd/")
    for kind in ("user", "role"):
        for name in etcd.etcdctl(kind, "list").split():
            if name != "root":
                etcd.etcdctl(kind, "delete", name)
    return Place(etcd, certificate, tmp_path)


# ---- a place for each cluster ---------------------------------------------------------------------------------------


def test_a_cluster_gets_its_place_and_a_second_run_changes_nothing(place: Place) -> None:
    dry = place.fleet("add", "lab", "--dry-run", "--passwords", str(place.passwords))
    assert dry.exit_code == Exit.DONE
    shown = [
        "etcdctl role add failoverd-lab",
        "etcdctl role grant-permission failoverd-lab --prefix=true readwrite /failoverd/lab/",
        "etcdctl user add failoverd-lab",
        "etcdctl user grant-role failoverd-lab failoverd-lab",
    ]
    assert [line.strip() for line in dry.stdout.splitlines() if "etcdctl" in line] == shown
    assert not place.passwords.exists()
    assert "failoverd" not in place.members.etcdctl("user", "list")

    done = place.add("lab")
    assert done.exit_code == Exit.DONE
    assert [line for line in done.stdout.splitlines() if line.startswith("  done")] == [
        f"  done  {line}" for line in shown
    ]
    kept = place.passwords / "failoverd-lab"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert place.password("failoverd-lab") not in done.output
    assert "    user: failoverd-lab\n" in done.stdout

    again = place.add("lab")
    assert again.exit_code == Exit.DONE
    assert again.stdout.startswith("nothing to change\n")


def test_what_an_ended_run_has_left_out_the_next_one_adds(place: Place) -> None:
    place.members.etcdctl("role", "add", "failoverd-lab")
    done = place.add("lab")
    assert done.exit_code == Exit.DONE
    assert "role add" not in done.stdout
    assert "role grant-permission" in done.stdout


def test_nobody_is_there_to_be_asked(place: Place) -> None:
    refused = place.fleet("add", "lab", "--passwords", str(place.passwords))
    assert refused.exit_code == Exit.USAGE
    assert "--yes" in refused.stderr
    assert "failoverd" not in place.members.etcdctl("role", "list")


class Asker:
    """Somebody who has a user's password, and asks etcd whatever they like."""

    def __init__(self, place: Place, user: str, password: str | None = None) -> None:
        files = place.certificate
        context = ssl.create_default_context(cafile=files.ca)
        context.load_cert_chain(files.certificate, files.key)
        self._client = httpx.Client(verify=context, base_url=place.members.urls[0], trust_env=False, timeout=5)
        who = {"name": user, "password": password or place.password(user)}
        self._headers = {"authorization": self._client.post("/v3/auth/authenticate", json=who).json()["token"]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, path: str, **body: object) -> str:
        """What came of it: "" or why not."""
        answer = self._client.post(f"/v3/{path}", json=body, headers=self._headers).json()
        return str(answer.get("message", ""))

    def watch(self, key: str, end: str = "") -> str:
        """Whether a watch may begin: "" or why not."""
        asked = {"create_request": {"key": _text(key), "range_end": _text(end)}}
        with self._client.stream("POST", "/v3/watch", json=asked, headers=self._headers) as stream:
            for line in stream.iter_lines():
                result: dict[str, Any] = json.loads(line)["result"]
                return str(result.get("cancel_reason", "canceled")) if result.get("canceled") else ""
        raise AssertionError("the watch said nothing")


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_no_cluster_reads_writes_deletes_or_watches_what_is_another_s(place: Place) -> None:
    for cluster in ("lab", "lab2"):  # one begins like the other
        assert place.add(cluster).exit_code == Exit.DONE
        place.write(cluster, HELD)
    with Asker(place, "failoverd-lab") as lab:
        own, others = "/failoverd/lab/record", "/failoverd/lab2/record"
        compare = [{"key": _text(others), "target": "VERSION", "result": "GREATER", "version": "0"}]
        read = {"request_range": {"key": _text(own)}}
        attempts = {
            "its record": lab.ask("kv/range", key=_text(others)),
            "its keys": lab.ask("kv/range", key=_text("/failoverd/lab2/"), range_end=_text("/failoverd/lab20")),
            "all clusters": lab.ask("kv/range", key=_text("/failoverd/"), range_end=_text("/failoverd0")),
            "all there is": lab.ask("kv/range", key=_text("\0"), range_end=_text("\0")),
            "beyond its own": lab.ask("kv/range", key=_text("/failoverd/lab/"), range_end=_text("/failoverd/lab1")),
            "before its own": lab.ask("kv/range", key=_text("/failoverd/lab"), range_end=_text("/failoverd/lab0")),
            "the count": lab.ask("kv/range", key=_text("/failoverd/lab2/"), range_end=_text("\0"), count_only=True),
            "a write": lab.ask("kv/put", key=_text(others), value=_text("x")),
            "a new key": lab.ask("kv/put", key=_text("/failoverd/lab2/x"), value=_text("x")),
            "a key of nobody's": lab.ask("kv/put", key=_text("/failoverd/lab"), value=_text("x")),
            "a removal": lab.ask("kv/deleterange", key=_text(others)),
            "a comparison": lab.ask("kv/txn", compare=compare, success=[read]),
            "a transaction": lab.ask("kv/txn", success=[{"request_range": {"key": _text(others)}}]),
            "an untaken branch": lab.ask(
                "kv/txn", success=[read], failure=[{"request_delete_range": {"key": _text(others)}}]
            ),
            "a watch": lab.watch(others),
            "a watch of all": lab.watch("/failoverd/", "/failoverd0"),
            "rights of its own making": lab.ask("auth/user/grant", user="failoverd-lab", role="failoverd-lab2"),
            "another one's password": lab.ask("auth/user/changepw", name="failoverd-lab2", password="x"),
            "no authentication": lab.ask("auth/disable"),
        }
        assert {what: words for what, words in attempts.items() if DENIED not in words} == {}
        assert lab.ask("kv/range", key=_text("/failoverd/lab/"), range_end=_text("/failoverd/lab0")) == ""
        assert lab.watch(own) == ""
    value = place.members.etcdctl("get", "--print-value-only", "/failoverd/lab2/record")
    assert json.loads(value)["record"]["term"] == HELD.term


def test_the_reader_sees_all_and_changes_nothing(place: Place) -> None:
    place.write("lab", HELD)
    assert place.fleet("reader", "--yes", "--passwords", str(place.passwords)).exit_code == Exit.DONE
    with Asker(place, "failoverd_fleet") as reader:
        assert reader.ask("kv/range", key=_text("/failoverd/"), range_end=_text("/failoverd0")) == ""
        assert DENIED in reader.ask("kv/put", key=_text("/failoverd/lab/record"), value=_text("x"))
        assert DENIED in reader.ask("kv/deleterange", key=_text("/failoverd/lab/record"))
        assert DENIED in reader.ask("kv/range", key=_text("\0"), range_end=_text("\0"))


def test_a_role_that_reaches_further_is_refused_and_named(place: Place) -> None:
    place.members.add_role("failoverd-lab", "whatever", "/failoverd/")
    refused = place.add("lab", "--new-password")
    assert refused.exit_code == Exit.REFUSED
    assert "FLEET_RIGHTS: role failoverd-lab: may readwrite all below /failoverd/; allowed:" in refused.stderr
    place.members.etcdctl("role", "delete", "failoverd-lab")
    place.members.etcdctl("user", "grant-role", "failoverd-lab", "root")
    refused = place.add("lab", "--new-password")
    assert refused.exit_code == Exit.REFUSED
    assert "FLEET_RIGHTS: user failoverd-lab: has the role root as well; allowed:" in refused.stderr
    assert "failoverd-lab" not in place.members.etcdctl("role", "list")


def test_a_password_that_is_not_known_is_not_replaced_unless_told(place: Place) -> None:
    place.add("lab")
    old = place.password("failoverd-lab")
    (place.passwords / "failoverd-lab").unlink()
    refused = place.add("lab")
    assert refused.exit_code == Exit.REFUSED
    assert "FLEET_PASSWORD: user failoverd-lab: is there, and" in refused.stderr
    assert not (place.passwords / "failoverd-lab").exists()

    assert place.add("lab", "--new-password").exit_code == Exit.DONE
    assert place.password("failoverd-lab") != old
    place.write("lab", HELD)
    assert asyncio.run(_term_seen_by(place.store("lab"))) == HELD.term

    (place.passwords / "failoverd-lab").write_text("another\n")
    assert "does not have its password" in place.add("lab").stderr


async def _term_seen_by(store: EtcdStore) -> int:
    try:
        return (await store.read()).term
    finally:
        await store.close()


@pytest.mark.parametrize("name", ["Lab", "lab/x", "", "a_b", "x" * 64])
def test_what_is_no_cluster_s_name_is_refused(place: Place, name: str) -> None:
    refused = place.fleet("add", name, "--yes")
    assert refused.exit_code == Exit.USAGE
    assert "lower-case letters" in refused.stderr


# ---- all of them at once --------------------------------------------------------------------------------------------


def status(place: Place, *words: str) -> tuple[int, dict[str, Any]]:
    shown = place.fleet("status", "-o", "json", *words)
    return shown.exit_code, json.loads(shown.stdout) if shown.stdout else {"stderr": shown.stderr}


def test_all_well(place: Place) -> None:
    for cluster in ("lab", "lab2"):
        place.add(cluster)
    with Keeper(place, "lab", HELD), Keeper(place, "lab2", replace(HELD, holder=MAIL2)):
        code, found = status(place)
        table = place.fleet("status")
    assert code == table.exit_code == Exit.DONE
    assert [(each["cluster"], each["state"], each["primary"]) for each in found["clusters"]] == [
        ("lab", "well", "mail1"),
        ("lab2", "well", "mail2"),
    ]
    assert found["summary"]["well"] == 2
    assert table.stdout.splitlines()[0].startswith(
        "2 clusters: 2 well   below /failoverd/ in etcd at https://127.0.0.1:"
    )
    assert [line.split() for line in table.stdout.splitlines()[2:]] == [
        ["CLUSTER", "STATE", "PRIMARY", "TERM", "LEASE", "WHY"],
        ["lab", "well", "mail1", "7", "renewed"],
        ["lab2", "well", "mail2", "7", "renewed"],
    ]


def test_the_worst_first_and_a_lease_is_over_only_when_it_was_silent_for_its_whole_length(place: Place) -> None:
    for cluster in ("good", "worked-on"):
        place.add(cluster)
    place.write("dead", HELD)
    place.write("long", replace(HELD, ttl_ms=60_000))
    place.members.etcdctl("put", "/failoverd/broken/record", "\x1b[2Jno record")
    place.members.etcdctl("put", "/failoverd/empty/anchors/1", "x")
    place.members.etcdctl("put", "/failoverd/a-key-of-nobody", "x")
    place.members.etcdctl("put", "/elsewhere/x/record", "x")
    with Keeper(place, "good", HELD), Keeper(place, "worked-on", replace(HELD, paused="anna: new switches")):
        began = time.monotonic()
        code, found = status(place, "--for", "2.5")
        assert time.monotonic() - began >= HELD.ttl_ms / 1000
    assert code == Exit.FAILED
    assert [(each["cluster"], each["state"], each["primary"]) for each in found["clusters"]] == [
        ("broken", "unreadable", None),
        ("empty", "unreadable", None),
        ("dead", "no_primary", None),
        ("long", "silent", "mail1"),
        ("worked-on", "paused", "mail1"),
        ("good", "well", "mail1"),
    ]
    leases = {each["cluster"]: each["lease"] for each in found["clusters"]}
    assert leases["dead"]["silent_ms"] >= HELD.ttl_ms > 0
    assert leases["long"]["silent_ms"] < 60_000
    assert leases["good"]["renewed"]
    shown = place.fleet("status", "--for", "0")
    assert shown.exit_code == Exit.FAILED
    assert "\x1b" not in shown.stdout
    assert shown.stdout.splitlines()[0].startswith("6 clusters: 2 unreadable, 4 silent")  # a first look proves nothing


def test_a_pause_alone_is_a_warning(place: Place) -> None:
    place.add("lab")
    with Keeper(place, "lab", replace(HELD, paused="anna: new switches")):
        code, found = status(place)
    assert code == Exit.WARNINGS
    assert found["clusters"][0]["marks"] == [{"state": "paused", "why": "by anna: new switches"}]


def test_every_cluster_is_found_however_many_anchors_stand_between_them(place: Place) -> None:
    for cluster in ("first", "second", "third"):
        place.write(cluster, HELD)

    keys = [f"/failoverd/second/anchors/{number:019d}/mail1/granted/first" for number in range(450)]
    with Asker(place, "root", ROOT) as root:
        for at in range(0, len(keys), 100):
            puts = [{"request_put": {"key": _text(key), "value": _text("x")}} for key in keys[at : at + 100]]
            assert root.ask("kv/txn", success=puts) == ""
    code, found = status(place, "--for", "0")
    assert code == Exit.FAILED
    assert [each["cluster"] for each in found["clusters"]] == ["first", "second", "third"]


def test_no_cluster_yet(place: Place) -> None:
    code, found = status(place)
    assert (code, found["clusters"]) == (Exit.DONE, [])
    assert place.fleet("status").stdout.startswith("0 clusters")


# ---- whoever may not, and whoever is away ---------------------------------------------------------------------------


def test_a_cluster_s_own_user_may_not_look_at_all_of_them(place: Place) -> None:
    place.add("lab")
    shown = place.fleet("status", config=place.file("failoverd-lab", place.password("failoverd-lab")))
    assert shown.exit_code == Exit.UNREACHABLE
    assert DENIED in shown.stderr


def test_a_wrong_password_is_said_and_not_shown(place: Place) -> None:
    shown = place.fleet("status", config=place.file("root", "not-that-one"))
    assert shown.exit_code == Exit.UNREACHABLE
    assert "authentication failed" in shown.stderr
    assert "not-that-one" not in shown.output


def test_a_file_that_is_none_is_refused_with_its_place(place: Place) -> None:
    config = place.file("root", ROOT, prefix="nowhere")
    shown = place.fleet("status", config=config)
    assert shown.exit_code == Exit.USAGE
    assert f"{config}:9: store.prefix: value 'nowhere':" in shown.stderr


# ---- and away again -------------------------------------------------------------------------------------------------


def test_a_cluster_that_lives_is_not_removed_and_one_that_does_not_goes_whole(place: Place) -> None:
    place.add("lab")
    place.add("lab2")
    place.write("lab2", HELD)
    with Keeper(place, "lab", HELD):
        refused = place.fleet("remove", "lab", "--yes")
        assert refused.exit_code == Exit.REFUSED
        assert "FLEET_ALIVE: lab: its lease is being renewed" in refused.stderr
        assert "failoverd-lab" in place.members.etcdctl("user", "list").split()
    done = place.fleet("remove", "lab", "--yes")
    assert done.exit_code == Exit.DONE
    assert [line.split("etcdctl ")[1] for line in done.stdout.splitlines() if line.startswith("  done")] == [
        "user delete failoverd-lab",
        "role delete failoverd-lab",
        "del --prefix /failoverd/lab/",
    ]
    assert place.members.etcdctl("get", "--prefix", "--keys-only", "/failoverd/").split() == ["/failoverd/lab2/record"]
    assert place.members.etcdctl("user", "list").split() == ["failoverd-lab2", "root"]
    assert place.members.etcdctl("role", "list").split() == ["failoverd-lab2"]
    assert "nothing to change" in place.fleet("remove", "lab", "--yes").stdout


def test_a_record_that_nobody_here_understands_is_not_removed(place: Place) -> None:
    place.members.etcdctl("put", "/failoverd/lab/record", '{"v": 2}')
    refused = place.fleet("remove", "lab", "--yes")
    assert refused.exit_code == Exit.REFUSED
    assert "FLEET_ALIVE: lab: " in refused.stderr
