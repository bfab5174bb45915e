"""`failoverctl store check` against real etcd of both versions: all that can be wrong, by its name."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner, Result
from etcd_members import Members, free_ports, programs
from node_certificates import Authority, Files

from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.stores import etcd_look, etcd_status
from failoverd.stores.etcd_link import Endpoints
from failoverd.stores.etcd_requests import EtcdAnswerError
from failoverd.tls import store_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    StageOf = Callable[..., AbstractContextManager["Stage"]]

VERSIONS = [
    pytest.param(version, marks=pytest.mark.skipif(programs(version) is None, reason=f"no etcd {version} here"))
    for version in ("3.4", "3.5")
]
SMALL = "--quota-backend-bytes=20000000"
VALUE = "x" * 500_000


@dataclass
class Stage:
    """An etcd, and the configuration of a node that is to use it."""

    members: Members
    authority: Authority
    directory: Path
    example: str

    def check(self, *words: str, files: Files | str | None = "", urls: Sequence[str] = (), **more: str) -> Result:
        """Run it. `files`: the client certificate (None: none); `more`: keys of the section."""
        shown = self.members.client if files == "" else files
        lines = ["store:", "  kind: etcd", f"  endpoints: {json.dumps(list(urls or self.members.urls))}"]
        lines += [f"  ca: {more.pop('ca', str(self.members.client.ca))}"]
        if isinstance(shown, Files):
            lines += [f"  certificate: {shown.certificate}", f"  key: {shown.key}"]
        if "user" in more:
            secret = self.directory / "password"
            secret.write_text(more.pop("password") + "\n")
            secret.chmod(0o600)
            lines += [f"  password_file: {secret}"]
        lines += [f"  {key}: {value}" for key, value in more.items()]
        path = self.directory / "failoverd.yaml"
        path.write_text(self.example.replace("store: {kind: embedded, node: arbiter}", "\n".join(lines)))
        arguments = ["store", "check", str(path), "--node", "mail1", *words]
        return CliRunner().invoke(app, arguments, prog_name="failoverctl")

    def found(self, **more: Any) -> tuple[Exit, dict[str, list[str]]]:
        """How it ends, and the reasons by code."""
        result = self.check("-o", "json", **more)
        assert result.exit_code in {Exit.DONE, Exit.FAILED, Exit.WARNINGS}, result.output
        reasons: dict[str, list[str]] = {}
        for finding in json.loads(result.stdout)["findings"]:
            assert finding["blocks"] == (result.exit_code == Exit.FAILED)
            reasons.setdefault(finding["code"], []).append(finding["reason"])
        return Exit(result.exit_code), reasons

    def post(self, path: str, body: dict[str, object]) -> httpx.Response:
        """Ask the first member for something, without a user."""
        client = self.members.client
        context = store_context(ca=client.ca, certificate=client.certificate, key=client.key)
        return httpx.post(self.members.urls[0] + path, json=body, verify=context)

    def put(self, key: int) -> bool:
        """Make the database grow; whether there was room for it."""
        text = base64.b64encode(f"/other/{key}".encode()).decode()
        body: dict[str, object] = {"key": text, "value": base64.b64encode(VALUE.encode()).decode()}
        return self.post("/v3/kv/put", body).is_success


@pytest.fixture
def stage_of(tmp_path: Path, example: str) -> StageOf:
    @contextmanager
    def of(version: str, *flags: str, count: int = 1) -> Iterator[Stage]:
        authority = Authority(tmp_path)
        members = Members(tmp_path / "etcd", authority, count=count, version=version, flags=flags)
        members.start()
        try:
            yield Stage(members, authority, tmp_path, example)
        finally:
            members.close()

    return of


@pytest.mark.parametrize("version", VERSIONS)
def test_without_authentication(version: str, stage_of: StageOf) -> None:
    with stage_of(version) as stage:
        assert stage.found() == (Exit.DONE, {})
        said = stage.check()
        assert "etcd, fit to keep the lease   no findings   as mail1 asks it" in said.stdout
        assert "record  /failoverd/lab/record  none yet: the cluster begins here" in said.stdout
        assert stage.members.etcdctl("get", "--prefix", "/").strip() == ""

        assert stage.found(user="lab", password="x") == (
            Exit.FAILED,
            {"ETCD_LOGIN": ["lab: etcdserver: authentication is not enabled"]},
        )
        for shown in (None, Authority(stage.directory, "other").nameless("stranger")):
            ended, found = stage.found(files=shown)
            assert (ended, list(found)) == (Exit.FAILED, ["ETCD_CLIENT_CERTIFICATE"])
        ended, found = stage.found(ca=str(Authority(stage.directory, "third").ca))
        assert (ended, found) == (Exit.FAILED, {"ETCD_TLS": ["unable to get local issuer certificate"]})

        nobody = f"https://127.0.0.1:{free_ports(1)[0]}"
        assert stage.found(urls=[nobody])[0] is Exit.FAILED
        ended, found = stage.found(urls=[nobody, *stage.members.urls])
        assert (ended, list(found)) == (Exit.WARNINGS, ["ETCD_UNREACHED"])
        assert stage.found(urls=[f"https://127.0.0.1:{stage.members.members[0].peer_port}"])[0] is Exit.FAILED

        stage.members.etcdctl("put", "/failoverd/lab/record", "something")
        ended, found = stage.found()
        assert (ended, list(found)) == (Exit.FAILED, ["ETCD_RECORD"])


@pytest.mark.parametrize("version", VERSIONS)
def test_with_authentication(version: str, stage_of: StageOf) -> None:
    """What may be read and what may be written are told apart, and nothing is written for it."""
    with stage_of(version) as stage:
        members = stage.members
        members.enable_auth("root")
        members.add_role("lab", "right", "/failoverd/lab/")
        for name, prefix in (("reader", "/failoverd/lab/"), ("other", "/failoverd/lab2/")):
            members.etcdctl("role", "add", name)
            members.etcdctl("role", "grant-permission", name, "--prefix=true", "read", prefix)
            members.etcdctl("user", "add", f"{name}:right")
            members.etcdctl("user", "grant-role", name, name)

        assert stage.found(user="lab", password="right") == (Exit.DONE, {})
        refused = "may not {} below /failoverd/lab/: etcdserver: permission denied"
        for user, password, code, reason in (
            ("lab", "wrong", "ETCD_LOGIN", "lab: etcdserver: authentication failed, invalid user ID or password"),
            ("reader", "right", "ETCD_RIGHTS", f"reader {refused.format('write')}"),
            ("other", "right", "ETCD_RIGHTS", f"other {refused.format('read')}"),
        ):
            assert stage.found(user=user, password=password) == (Exit.FAILED, {code: [reason]})
        assert stage.found() == (
            Exit.FAILED,
            {"ETCD_LOGIN": ["authentication is on, and no store.user is given"]},
        )
        ended, found = stage.found(files=stage.authority.node("mail1"), user="lab", password="right")
        assert ended is Exit.FAILED
        assert "has a CN" in found["ETCD_CLIENT_CERTIFICATE"][0]
        assert members.etcdctl("get", "--prefix", "/").strip() == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_that_fills_up(version: str, stage_of: StageOf) -> None:
    with stage_of(version, SMALL) as stage:
        assert stage.found() == (Exit.DONE, {})
        keys, ended, found = itertools.count(), Exit.DONE, dict[str, list[str]]()
        while not found:
            assert stage.put(next(keys))
            ended, found = stage.found()
        assert (ended, list(found)) == (Exit.WARNINGS, ["ETCD_SPACE"])
        while stage.put(next(keys)):
            pass
        ended, found = stage.found()
        assert ended is Exit.FAILED
        assert found["ETCD_ALARM"][0] == "NOSPACE, as it says of itself or of another member"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_that_is_corrupt(version: str, stage_of: StageOf) -> None:
    with stage_of(version) as stage:
        assert stage.post("/v3/maintenance/alarm", {"action": "ACTIVATE", "alarm": "CORRUPT"}).is_success
        ended, found = stage.found()
        assert ended is Exit.FAILED
        assert found["ETCD_ALARM"][0].startswith("CORRUPT")


@pytest.mark.parametrize("version", VERSIONS)
def test_members_that_are_lost_one_after_the_other(version: str, stage_of: StageOf) -> None:
    with stage_of(version, count=3) as stage:
        assert stage.found() == (Exit.DONE, {})
        first, second, _ = stage.members.members
        stage.members.kill(first)
        ended, found = stage.found()
        assert (ended, list(found)) == (Exit.WARNINGS, ["ETCD_UNREACHED"])
        stage.members.kill(second)
        ended, found = stage.found()
        assert ended is Exit.FAILED
        assert {code: len(reasons) for code, reasons in found.items()} == {"ETCD_UNREACHED": 2, "ETCD_LEADER": 1}


@pytest.mark.parametrize("version", VERSIONS)
def test_two_etcds_are_none_and_a_learner_is_no_endpoint(
    version: str,
    stage_of: StageOf,
    tmp_path: Path,
) -> None:
    with stage_of(version) as stage:
        other = Members(tmp_path / "second", stage.authority, version=version)
        try:
            other.start()
            ended, found = stage.found(urls=[*stage.members.urls, *other.urls])
            assert (ended, list(found)) == (Exit.FAILED, ["ETCD_CLUSTERS"])
            assert all(url in found["ETCD_CLUSTERS"][0] for url in (*stage.members.urls, *other.urls))
        finally:
            other.close()
        learner = stage.members.add(learner=True)
        client = stage.members.client
        context = store_context(ca=client.ca, certificate=client.certificate, key=client.key)
        transport = httpx.HTTPTransport(verify=context, retries=7)  # a refused connection: half a second, then twice
        with httpx.Client(transport=transport, timeout=20) as asking:
            asking.post(f"{learner.url}/v3/maintenance/status", json={}).raise_for_status()
        ended, found = stage.found()
        assert (ended, list(found)) == (Exit.WARNINGS, ["ETCD_LEARNER"])


@pytest.mark.parametrize("version", VERSIONS)
def test_what_takes_too_long_is_said_and_is_in_nobody_s_way(version: str, stage_of: StageOf) -> None:
    with stage_of(version) as stage:
        client = stage.members.client
        context = store_context(ca=client.ca, certificate=client.certificate, key=client.key)
        where = Endpoints(stage.members.urls, context)
        looks = asyncio.run(etcd_look.look(where, cluster="lab", prefix="/failoverd/", slow_ms=0.0))
        assert etcd_look.fit(looks)
        assert [trouble.code for trouble in etcd_look.troubles(looks)] == ["ETCD_SLOW"]


def test_an_embedded_store_is_not_asked(config_file: Path) -> None:
    result = CliRunner().invoke(app, ["store", "check", str(config_file), "--node", "mail1"])
    assert result.exit_code == Exit.USAGE
    assert "kind embedded: arbiter's own failoverd keeps it" in result.output


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"header": {}}', b'{"header": {"cluster_id": "x"}}', b"\xff"])
def test_a_status_that_is_none(body: bytes) -> None:
    with pytest.raises(EtcdAnswerError, match="no status"):
        etcd_status.status_of(body)
