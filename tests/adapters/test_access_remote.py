"""Operators elsewhere, over real TLS: who gets in, with which role, and failoverctl from there."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from access_stage import Elsewhere, asks, configured
from click.testing import CliRunner, Result
from node_certificates import Authority, Files
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from failoverd.config import ConfigError, load
from failoverd.config.access import Access as Section
from failoverd.config.access import Remote
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime.access_roles import ROUTES, Role
from failoverd.runtime.document import Event, Reason, Refused
from failoverd.runtime.node_server import NodeServer
from failoverd.runtime.remote import RemoteServer
from failoverd.tls import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEOPLE = "{vera: view, otto: operate, anna: administer}"
STEP = Event(elapsed_ms=214, node="mail1", text="gate closed")
DONE = Event(elapsed_ms=731, node="mail2", text="proven through the VIP", final=True, succeeded=True)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("cluster-tls"))


@pytest.fixture(scope="session")
def node(authority: Authority) -> Files:
    return authority.node("mail1")


@pytest.fixture(scope="session")
def people(authority: Authority) -> dict[str, Files]:
    return {name: authority.operator(name) for name in ("vera", "otto", "anna", "carl")}


@pytest.fixture
def elsewhere(config_file: Path, node: Files, tmp_path: Path) -> Iterator[Elsewhere]:
    with Elsewhere(tmp_path / "control.sock", configured(config_file, node, PEOPLE)) as running:
        yield running


@pytest.fixture(autouse=True)
def _nobody_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have an options file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))


def client(elsewhere: Elsewhere, shown: Files) -> httpx.Client:
    context = client_context(ca=shown.ca, certificate=shown.certificate, key=shown.key)
    return httpx.Client(verify=context, base_url=f"https://{elsewhere.host}", timeout=20, trust_env=False)


def ctl(elsewhere: Elsewhere, shown: Files, *arguments: str) -> Result:
    files = ("--certificate", str(shown.certificate), "--key", str(shown.key), "--ca", str(shown.ca))
    return CliRunner().invoke(app, [*arguments, "--host", elsewhere.host, *files], prog_name="failoverctl")


# ---- who gets in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "role"),
    [("carl", None), ("vera", Role.VIEW), ("otto", Role.OPERATE), ("anna", Role.ADMINISTER)],
)
def test_each_route_for_each_role(
    elsewhere: Elsewhere, people: dict[str, Files], person: str, role: Role | None
) -> None:
    with client(elsewhere, people[person]) as asking:
        for (route, needed), (method, path, body) in zip(ROUTES.items(), asks(), strict=True):
            lie = {"by": "root"} if path == "/v1/pause" else {}
            answer = asking.request(method, path, json=None if body is None else body | lie)
            may = role is not None and role >= needed
            assert answer.status_code in {200, 202, 404} if may else answer.status_code == 403, (
                f"{route}: {answer.text}"
            )
            if not may:
                said = answer.json()
                assert (said["who"], said["needs"]) == (f"{person} (certificate)", needed.word)
                assert said["key"] == f"access.remote.people.{person}"
    orders = [order for order in elsewhere.stage.asked if order[0] != "plan"]
    assert all(f"{person} (certificate)" in order for order in orders), "whatever it says in `by`"
    assert {where for where, _, _ in elsewhere.stage.shut_out} <= {"127.0.0.1"}
    refused = [route for route, needed in ROUTES.items() if role is None or role < needed]
    assert [what for _, what, _ in elsewhere.stage.shut_out] == refused


@pytest.mark.parametrize("unit", ["", "mail"])
def test_a_certificate_that_is_no_operator_s_is_nobody_s(elsewhere: Elsewhere, authority: Authority, unit: str) -> None:
    shown = authority.operator("anna-of-another-kind", unit=unit, common="anna")
    with client(elsewhere, shown) as asking:
        answer = asking.get("/v1/status")
    assert answer.status_code == 403
    assert answer.json()["who"] == "no operator (from 127.0.0.1)"
    assert "OU=operator" in answer.json()["reason"]


def test_a_node_is_no_operator(elsewhere: Elsewhere, node: Files) -> None:
    with client(elsewhere, node) as asking:
        assert [asking.request(m, p, json=b).status_code for m, p, b in asks()] == [403] * len(ROUTES)


def test_an_operator_is_no_node(authority: Authority, node: Files) -> None:
    """Not even one to whom somebody has given a node's name."""

    async def tell() -> list[tuple[int, str]]:
        async def answer(_: object) -> PlainTextResponse:
            return PlainTextResponse("in")

        server = NodeServer(
            address="127.0.0.1",
            port=0,
            ssl_context=server_context(ca=node.ca, certificate=node.certificate, key=node.key),
            nodes=["mail1", "mail2"],
            routes=[Route("/", answer)],
        )
        await server.start()
        found = []
        for shown in (authority.node("mail2"), authority.operator("otto"), authority.operator("x", common="mail2")):
            context = client_context(ca=shown.ca, certificate=shown.certificate, key=shown.key)
            async with httpx.AsyncClient(verify=context, trust_env=False) as asking:
                told = await asking.get(f"https://127.0.0.1:{server.port}/")
                found.append((told.status_code, told.text))
        await server.stop()
        return found

    named = "the certificate names None, which is no configured node"
    assert asyncio.run(tell()) == [(200, "in"), (403, named), (403, named)]


def test_a_person_with_a_node_s_name_does_not_load(config_file: Path, node: Files) -> None:
    with pytest.raises(ConfigError, match=r"access\.remote\.people\.mail2: .*is a node of this file"):
        configured(config_file, node, "{anna: view, mail2: operate}")


def test_who_is_let_in_by_no_authority_is_not_answered(
    elsewhere: Elsewhere, authority: Authority, node: Files, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "other").operator("anna")
    expired = authority.operator("anna-once", days=-1, common="anna")
    for shown in (stranger, expired):
        context = client_context(ca=node.ca, certificate=shown.certificate, key=shown.key)
        with httpx.Client(verify=context, trust_env=False) as asking, pytest.raises(httpx.TransportError):
            asking.get(f"https://{elsewhere.host}/v1/status")
    nameless = ssl.create_default_context(cafile=node.ca)
    with httpx.Client(verify=nameless, trust_env=False) as asking, pytest.raises(httpx.TransportError):
        asking.get(f"https://{elsewhere.host}/v1/status")
    assert (elsewhere.stage.asked, elsewhere.stage.shut_out) == ([], [])


def test_an_authority_of_the_operators_own(
    config_file: Path, node: Files, people: dict[str, Files], tmp_path: Path
) -> None:
    own = Authority(tmp_path, "operators")
    anna = own.operator("anna")
    with Elsewhere(tmp_path / "s", configured(config_file, node, PEOPLE, ca=anna.ca)) as running:
        shown = Files(node.ca, anna.certificate, anna.key)
        assert ctl(running, shown, "status").exit_code == Exit.DONE
        ended = ctl(running, people["anna"], "status")
        assert ended.exit_code == Exit.UNREACHABLE
        assert f"it does not take {people['anna'].certificate} (of another CA" in ended.stderr


def test_who_is_taken_out_of_the_file_is_out(elsewhere: Elsewhere, people: dict[str, Files]) -> None:
    with client(elsewhere, people["otto"]) as asking:
        assert asking.post("/v1/acknowledge", json={}).status_code == 202
        elsewhere.call(lambda: elsewhere.server.reload(Section(remote=Remote(people={"otto": "view"}))))
        assert [asking.post("/v1/acknowledge", json={}).status_code, asking.get("/v1/status").status_code] == [403, 200]
        elsewhere.call(lambda: elsewhere.server.reload(Section()))
        assert asking.get("/v1/status").status_code == 403


def test_it_is_off_unless_it_is_wanted(config_file: Path, elsewhere: Elsewhere) -> None:
    async def tell() -> int:
        server = RemoteServer(load(config_file, "mail1"), elsewhere.remote._door, address="127.0.0.1", port=0)
        await server.start()
        await server.stop()
        return server.port

    assert asyncio.run(tell()) == 0


def test_a_port_that_is_taken_is_a_finding_and_is_tried_again(
    config_file: Path, node: Files, elsewhere: Elsewhere
) -> None:
    config = configured(config_file, node, PEOPLE)

    async def tell() -> list[str]:
        said = []
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            server = RemoteServer(config, elsewhere.remote._door, address="127.0.0.1", port=port, retry_s=0.05)
            await server.start()
            said += [f"{why.code}: {why.reason}" for why in server.refused()]
        async with asyncio.timeout(20):
            while server.refused():  # noqa: ASYNC110 - nothing is set that could be waited for
                await asyncio.sleep(0.01)
        assert server.port == port
        await server.stop()
        return said

    (said,) = asyncio.run(tell())
    assert said.startswith("ACCESS_REMOTE: 127.0.0.1 port ")
    assert said.endswith("Address already in use")


# ---- failoverctl from there ------------------------------------------------------------------------------------------


def test_status_is_that_of_the_node_there(elsewhere: Elsewhere, people: dict[str, Files]) -> None:
    shown = ctl(elsewhere, people["vera"], "status")
    assert (shown.exit_code, shown.stderr) == (Exit.DONE, "")
    assert shown.stdout.startswith("lab   term 7   primary mail1")


def test_a_request_is_followed_to_its_end(elsewhere: Elsewhere, people: dict[str, Files]) -> None:
    def told() -> None:
        elsewhere.until_asked()
        for event in (STEP, DONE):
            elsewhere.call(lambda event=event: elsewhere.stage.logs["r1"].append(event))

    teller = threading.Thread(target=told)
    teller.start()
    ended = ctl(elsewhere, people["otto"], "promote", "--node", "mail2", "--reason", "kernel")
    teller.join(20)
    assert (ended.exit_code, ended.stderr) == (Exit.DONE, "")
    assert [line.split("  ")[-1].strip() for line in ended.stdout.splitlines()] == [
        "gate closed",
        "proven through the VIP",
        "done: mail2 is primary",
    ]
    assert elsewhere.stage.asked == [("mail2", "otto (certificate)", "kernel")]


def test_what_one_may_not_is_said_with_its_page(elsewhere: Elsewhere, people: dict[str, Files]) -> None:
    forced = ("promote", "--node", "mail2", "--force", "--allow-data-loss", "--reason", "they burnt")
    for person, command in (("vera", ("pause", "--reason", "x")), ("otto", forced), ("otto", ("config", "reload"))):
        ended = ctl(elsewhere, people[person], *command)
        assert ended.exit_code == Exit.REFUSED
        assert ended.stdout == ""
        needs = "operate" if person == "vera" else "administer"
        may = "view" if person == "vera" else "operate"
        assert ended.stderr == (
            "refused, nothing was touched: you may not\n"
            f"  ACCESS_DENIED  {person} (certificate) may {may}, and this takes {needs}: "
            f"access.remote.people.{person} would give it\n"
            "  page  runbooks/codes/ACCESS_DENIED.md\n"
        )
    assert elsewhere.stage.asked == []
    ended = ctl(elsewhere, people["carl"], "status")
    assert (ended.exit_code, "carl (certificate) has no role here" in ended.stderr) == (Exit.REFUSED, True)


def test_a_blocker_is_a_blocker_from_elsewhere_too(elsewhere: Elsewhere, people: dict[str, Files]) -> None:
    elsewhere.stage.refusal = Refused(reasons=(Reason(node="mail2", code="BLK_LAG", reason="6200 ms behind"),))
    ended = ctl(elsewhere, people["otto"], "promote", "--node", "mail2")
    assert (ended.exit_code, "BLK_LAG" in ended.stderr) == (Exit.REFUSED, True)


def test_the_audit_is_that_of_the_node_there_and_not_of_this_host(
    elsewhere: Elsewhere, people: dict[str, Files], tmp_path: Path
) -> None:
    record = {"v": 1, "seq": 1, "time": "2026-03-01T12:00:00.000Z", "boot_ms": 1, "node": "mail1", "term": 7}
    for name, kind in (("there", "there"), ("here", "here")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.jsonl").write_text(json.dumps({**record, "kind": kind}) + "\n")
    elsewhere.stage.directory = tmp_path / "there"
    shown = ctl(elsewhere, people["vera"], "audit", "show", "--audit", str(tmp_path / "here"), "-o", "json")
    assert (shown.exit_code, json.loads(shown.stdout)["kind"]) == (Exit.DONE, "there")


@pytest.mark.parametrize(
    "command", [("audit", "verify"), ("drill", "report", "x"), ("drill", "compare", "x", "y")], ids=" ".join
)
def test_what_reads_files_says_that_it_is_for_the_node(command: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(app, [*command, "--host", "192.0.2.11"], prog_name="failoverctl")
    assert ended.exit_code == Exit.USAGE
    assert "this reads files of the node itself: run it there, without --host" in ended.stderr


def test_a_drill_is_looked_at_before_on_the_node_alone(elsewhere: Elsewhere, people: dict[str, Files]) -> None:
    ended = ctl(elsewhere, people["otto"], "drill", "run", "switchover", "--dry-run")
    assert (ended.exit_code, "run it on the node" in ended.stderr) == (Exit.USAGE, True)


def test_where_nobody_answers_nothing_of_this_host_is_shown(people: dict[str, Files], elsewhere: Elsewhere) -> None:
    elsewhere.stop()
    for command in ("status", "history", "check"):
        ended = ctl(elsewhere, people["vera"], command)
        assert (ended.exit_code, ended.stdout) == (Exit.UNREACHABLE, "")
        assert "nobody listens: access.remote is not enabled there, or failoverd has ended" in ended.stderr


def test_a_node_that_does_not_prove_itself_is_told_nothing(
    elsewhere: Elsewhere, people: dict[str, Files], tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other").operator("x").ca
    ended = ctl(elsewhere, Files(other, people["otto"].certificate, people["otto"].key), "pause", "--reason", "x")
    assert ended.exit_code == Exit.UNREACHABLE
    assert f"it does not prove to be 127.0.0.1 of {other}: " in ended.stderr
    assert elsewhere.stage.asked == []


def test_a_certificate_that_is_not_taken_asks_for_nothing(elsewhere: Elsewhere, authority: Authority) -> None:
    expired = authority.operator("anna-last-year", days=-1, common="anna")
    for command in (("pause", "--reason", "x"), ("status",), ("audit", "show")):
        ended = ctl(elsewhere, expired, *command)
        assert ended.exit_code == Exit.UNREACHABLE, "and not: perhaps it was done"
        assert f"it does not take {expired.certificate} (of another CA, or expired)" in ended.stderr
    assert elsewhere.stage.asked == []


# ---- which place is meant --------------------------------------------------------------------------------------------


def test_the_file_and_the_environment_say_where(
    elsewhere: Elsewhere, people: dict[str, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "home" / "failoverd" / "failoverctl.toml"
    file.parent.mkdir(parents=True)
    shown = people["vera"]
    file.write_text(
        f'host = "{elsewhere.host}"\ncertificate = "{shown.certificate}"\nkey = "{shown.key}"\nca = "{shown.ca}"\n'
    )
    invoke = CliRunner().invoke
    assert invoke(app, ["status"]).exit_code == Exit.DONE
    assert invoke(app, ["pause", "--reason", "x"]).exit_code == Exit.REFUSED
    for name, path in (("CERTIFICATE", people["otto"].certificate), ("KEY", people["otto"].key)):
        monkeypatch.setenv(f"FAILOVERD_{name}", str(path))
    assert invoke(app, ["rejoin", "mail9"]).exit_code == Exit.USAGE, "the environment goes before the file"
    monkeypatch.setenv("FAILOVERD_HOST", "127.0.0.1:1")
    assert "127.0.0.1:1: nobody listens" in invoke(app, ["status"]).stderr
    monkeypatch.delenv("FAILOVERD_HOST")
    local = invoke(app, ["version", "--socket", str(tmp_path / "control.sock")])
    assert local.exit_code == Exit.DONE, "a socket that is named is what is meant"
    file.write_text("host = 7\n")
    assert f"{file}: host: allowed are the texts host, certificate, key, ca" in invoke(app, ["status"]).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "mail1"], "also needs --certificate, --key, --ca"),
        (["--host", "mail1", "--socket", "/x"], "which daemon is meant?"),
        (["--key", "/x"], "--certificate, --key and --ca are for --host"),
        (["--host", "mail1:0"], "is no ADDRESS or ADDRESS:PORT"),
        (["--host", "mail1:x"], "is no ADDRESS or ADDRESS:PORT"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], said: str) -> None:
    files = ["--certificate", "/a", "--key", "/b", "--ca", "/c"] if "mail1:" in arguments[-1] else []
    ended = CliRunner().invoke(app, ["status", *arguments, *files])
    assert (ended.exit_code, said in ended.stderr) == (Exit.USAGE, True), ended.stderr


def test_files_that_are_none_are_named(people: dict[str, Files], tmp_path: Path) -> None:
    shown = people["vera"]
    (tmp_path / "x.crt").write_text("nothing")
    for certificate, said in (("x.crt", "are no CA, certificate and key of it"), ("y.crt", "y.crt: No such file")):
        files = ["--certificate", str(tmp_path / certificate), "--key", str(shown.key), "--ca", str(shown.ca)]
        ended = CliRunner().invoke(app, ["status", "--host", "127.0.0.1:1", *files])
        assert (ended.exit_code, said in ended.stderr) == (Exit.UNREACHABLE, True), ended.stderr


def test_replaced_files_are_taken_and_bad_ones_leave_the_old(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    authority = Authority(tmp_path / "tls")
    shown, person = authority.node("mail1"), authority.operator("anna")
    door: Any = Starlette()
    remote = RemoteServer(configured(config_file, shown, PEOPLE), door, address="127.0.0.1", port=0)

    async def serial() -> str:
        context = client_context(ca=person.ca, certificate=person.certificate, key=person.key)
        _, writer = await asyncio.open_connection("127.0.0.1", remote.port, ssl=context)
        found = str(writer.get_extra_info("peercert")["serialNumber"])
        writer.transport.abort()
        return found

    async def tell() -> None:
        await remote.start()
        first = await serial()
        authority.node("mail1")
        await remote.renew()
        second = await serial()
        assert second != first
        shown.key.write_text("nonsense")
        await remote.renew()
        assert await serial() == second
        (found,) = remote.refused()
        assert found.code == "ACCESS_REMOTE"
        assert found.reason.endswith("; the old certificate files are still in use")
        await remote.stop()

    asyncio.run(tell())
