"""The control socket and real users of this host: each route for each role, and what callers are called."""

from __future__ import annotations

import asyncio
import grp
import json
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from access_stage import asks, guarded, known
from control_stage import Running, Stage
from test_node_controller import Node, story

from failoverd.config.access import Access as Section
from failoverd.config.access import Admitted
from failoverd.runtime.access import Access
from failoverd.runtime.access_roles import ROUTES, Role
from failoverd.runtime.control import LIMITS, ControlServer
from failoverd.runtime.document import Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.root

NOBODY, DAEMON = "nobody", "daemon"
VIEWERS, OPERATORS, ADMINISTRATORS = "adm", "operator", "staff"  # groups that Debian has
SECTION = Section(
    view=Admitted(groups=(VIEWERS,)),
    operate=Admitted(users=(DAEMON,), groups=(OPERATORS,)),
    administer=Admitted(groups=(ADMINISTRATORS,)),
)
# What each process of another user begins with. It starts as root, since Python may lie where that user cannot go.
BECOME = """
import http.client, json, os, socket, sys
user, group, groups = json.loads(sys.argv[2])
os.setgroups(groups)
os.setgid(group)
os.setuid(user)
"""
# Asks for each of a list.
ASKER = """
answers = []
for method, path, body in json.load(sys.stdin):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(sys.argv[1])
    except OSError as error:
        answers.append([0, error.strerror])
        continue
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    answers.append([answer.status, answer.read().decode()])
    connection.close()
json.dump(answers, sys.stdout)
"""
LOGGED_IN = "open('/proc/self/loginuid', 'w').write({login!r})\n" + ASKER


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that others can reach, closed to them as systemd makes it."""
    made = Path(tempfile.mkdtemp(prefix="failoverd-access-"))
    made.chmod(0o750)
    yield made / "control.sock"
    shutil.rmtree(made)


def command(path: Path, program: str, user: str, groups: Sequence[str | int]) -> list[str]:
    """How `program` is run as a user with just these supplementary groups."""
    account = pwd.getpwnam(user)
    numbers = [grp.getgrnam(group).gr_gid if isinstance(group, str) else group for group in groups]
    become = json.dumps([account.pw_uid, account.pw_gid, numbers])
    return [sys.executable, "-I", "-S", "-c", BECOME + program, str(path), become]


def asked(
    path: Path,
    what: Sequence[tuple[str, str, dict[str, Any] | None]],
    user: str = NOBODY,
    groups: Sequence[str | int] = (),
    *,
    program: str = ASKER,
) -> list[tuple[int, str]]:
    """What a process of `user` with just these supplementary groups is answered."""
    done = subprocess.run(
        command(path, program, user, groups),
        input=json.dumps(what),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [(status, text) for status, text in json.loads(done.stdout)]


def began(path: Path, program: str, *groups: str) -> subprocess.Popen[str]:
    """Start a process of nobody's that a test speaks with."""
    return subprocess.Popen(
        command(path, program, NOBODY, groups), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("groups", "role"),
    [((), None), ((VIEWERS,), Role.VIEW), ((OPERATORS,), Role.OPERATE), ((ADMINISTRATORS,), Role.ADMINISTER)],
    ids=["stranger", "view", "operate", "administer"],
)
def test_each_route_for_each_role(place: Path, groups: tuple[str, ...], role: Role | None) -> None:
    with guarded(place, SECTION) as running:
        known(running)
        answers = dict(zip(ROUTES.items(), asked(place, asks(), NOBODY, groups), strict=True))
        for (route, needed), (status, text) in answers.items():
            may = role is not None and role >= needed
            assert (status != 403) == may, f"{route}: {status} {text}"
            assert status in {200, 202, 404} if may else status == 403, f"{route}: {status} {text}"
            if may:
                continue
            said = json.loads(text)
            assert (said["code"], said["who"], said["needs"]) == ("ACCESS_DENIED", NOBODY, needed.word)
            assert said["role"] == (role.word if role else "")
            assert said["key"] == f"access.{needed.word}.users or access.{needed.word}.groups"
        refused = [route for (route, needed), _ in answers.items() if role is None or role < needed]
        assert [what for _, what, _ in running.stage.shut_out] == refused
        orders = [order for order in running.stage.asked if order[0] != "plan"]
        assert len(orders) == sum(status == 202 for status, _ in answers.values())
        assert all(NOBODY in order for order in orders), orders


def test_a_user_that_is_named_gets_in_and_another_group_s_name_does_not_help(place: Path) -> None:
    what = [("POST", "/v1/acknowledge", {}), ("POST", "/v1/reload", {})]
    with guarded(place, SECTION) as running:
        known(running)
        assert [status for status, _ in asked(place, what, DAEMON)] == [202, 403]
        assert [status for status, _ in asked(place, what, NOBODY, ("users", "mail"))] == [403, 403]
        assert running.stage.asked == [("acknowledge", DAEMON, "")]


def test_root_always_administers(place: Path) -> None:
    with guarded(place, Section(operate=Admitted(users=(NOBODY,)))) as running:
        known(running)
        assert not {status for status, _ in asked(place, asks(), "root")} & {403}


def test_many_groups_are_all_looked_at(place: Path) -> None:
    """More than one call to the kernel asks for: 256 are what the first has room for."""
    with guarded(place, SECTION) as running:
        known(running)
        crowd = [*range(20_000, 21_000), OPERATORS]
        ((status, _),) = asked(place, [("POST", "/v1/acknowledge", {})], NOBODY, crowd)
        assert status == 202


def test_where_nobody_else_is_named_nobody_else_can_connect(place: Path) -> None:
    with guarded(place, Section()) as running:
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o750
        assert asked(place, [("GET", "/v1/status", None)], NOBODY, (ADMINISTRATORS,)) == [(0, "Permission denied")]
        # A reload opens and closes it, and its directory lets nobody look around.
        running.call(lambda: running.server.reload(SECTION))
        known(running)
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o751
        assert [s for s, _ in asked(place, [("GET", "/v1/status", None)], NOBODY, (VIEWERS,))] == [200]
        running.call(lambda: running.server.reload(Section()))
        assert asked(place, [("GET", "/v1/status", None)], NOBODY, (VIEWERS,)) == [(0, "Permission denied")]


def test_a_role_that_a_reload_takes_away_is_gone_also_for_a_connection_that_is_open(place: Path) -> None:
    twice = """
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
for _ in range(2):
    connection.request("GET", "/v1/version")
    answer = connection.getresponse()
    answer.read()
    print(answer.status, flush=True)
    sys.stdin.readline()
"""
    with guarded(place, SECTION) as running:
        known(running)
        with began(place, twice, VIEWERS) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "200\n"
            running.call(lambda: running.server.reload(Section(view=Admitted(groups=("users",)))))
            process.stdin.write("\n\n")
            process.stdin.close()
            assert process.stdout.readline() == "403\n"


def test_one_user_cannot_take_all_connections(place: Path) -> None:
    greedy = f"""
sockets = [socket.socket(socket.AF_UNIX) for _ in range({LIMITS.of_one})]
for each in sockets:
    each.connect(sys.argv[1])
print("there", flush=True)
sys.stdin.read()
"""
    with guarded(place, SECTION) as running:
        known(running)
        with began(place, greedy) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            assert [s for s, _ in asked(place, [("GET", "/v1/status", None)], DAEMON)] == [200]
            process.stdin.close()


# ---- names -----------------------------------------------------------------------------------------------------------


def test_who_logged_in_stands_beside_the_user_that_asks(place: Path) -> None:
    if not Path("/proc/self/loginuid").exists():
        pytest.skip("this kernel keeps no login users")
    program = LOGGED_IN.format(login=str(pwd.getpwnam(DAEMON).pw_uid))
    with Running(place, Stage()) as running:
        running.stage.refusal = Refused(reasons=(Reason(node="mail2", code="BLK_LAG", reason="behind"),))
        what = [("POST", "/v1/promote", {"node": "mail2", "reason": "x", "by": "somebody else"})]
        assert [s for s, _ in asked(place, what, "root", program=program)] == [409]
        assert running.stage.asked == [("mail2", f"{DAEMON} (as root)", "x")]
        assert [(what, by) for what, by, _ in running.stage.turned_away] == [("promote mail2", f"{DAEMON} (as root)")]


def test_the_record_has_the_caller_and_not_who_it_says_it_is(config_file: Path, tmp_path: Path, place: Path) -> None:
    """A whole daemon: what is asked, what is refused, and what may not be asked at all."""

    async def tell(node: Node) -> None:
        access = Access(SECTION)
        server = ControlServer(place, node.controller, access=access)
        await server.start()
        async with asyncio.timeout(20):
            while access.refused():  # noqa: ASYNC110 - nothing is set that could be waited for
                await asyncio.sleep(0)
        lie = {"by": "root"}
        may = [
            ("POST", "/v1/pause", {"reason": "rack", **lie}),
            ("POST", "/v1/promote", {"node": "x", "reason": "", **lie}),
        ]
        answers = await asyncio.to_thread(asked, place, may, DAEMON)
        assert [status for status, _ in answers] == [202, 409]
        answers = await asyncio.to_thread(asked, place, [*may, *may], NOBODY, (VIEWERS,))
        assert {status for status, _ in answers} == {403}
        assert node.controller.denials.counted == {"socket": 4}
        async with asyncio.timeout(20):
            while not node.daemon.state.view.paused():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
        await server.stop()

    node = story(config_file, tmp_path, tell)
    records = [json.loads(line) for line in node.audit.read_text().splitlines()]
    (paused,) = (record for record in records if record["kind"] == "request")
    assert (paused["text"], paused["actor"]) == (f"{DAEMON} pauses", DAEMON)
    assert {record["actor"] for record in records if record["kind"] == "asked"} == {DAEMON}
    (refused,) = (record for record in records if record["kind"] == "request-refused")
    assert refused["actor"] == DAEMON
    denied = [record for record in records if record["kind"] == "access-denied"]
    assert [(r["code"], r["actor"], r["detail"]["where"]) for r in denied] == [("ACCESS_DENIED", NOBODY, "socket")] * 2
    assert [record["text"].partition(":")[0] for record in denied] == ["POST /v1/pause", "POST /v1/promote"]
    assert "root" not in {record["actor"] for record in records}


def test_the_listener_outlives_a_caller_that_is_gone(place: Path) -> None:
    gone = "socket.socket(socket.AF_UNIX).connect(sys.argv[1])\nprint('[]')"
    with guarded(place, SECTION) as running:
        known(running)
        assert asked(place, [], NOBODY, program=gone) == []
        assert [s for s, _ in asked(place, [("GET", "/v1/status", None)], DAEMON)] == [200]
        assert running.stage.shut_out == []
