"""Who may do what, and what they are called: without a network, and with one that hangs."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest

from failoverd.config.access import Access as Section
from failoverd.config.access import Admitted, Remote
from failoverd.runtime.access import LONGEST, Access
from failoverd.runtime.access_roles import Role
from failoverd.runtime.callers import LocalCaller, RemoteCaller, login_of
from failoverd.runtime.denials import AGAIN_MS, AT_MOST, Denials
from failoverd.tls import OPERATORS, node_name, operator_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from failoverd.runtime.callers import Caller

ANNA, BERT, CARL = 4001, 4002, 4003
WHEEL, MAIL = 4101, 4102
SECTION = Section(
    view=Admitted(groups=("mail",)),
    operate=Admitted(users=("anna",), groups=("wheel",)),
    administer=Admitted(users=("bert",)),
    remote=Remote(people={"dora": "operate", "emil": "view"}),
)


class Names:
    """A host's accounts. Where `hangs` is set, nothing is answered until it is released."""

    def __init__(self) -> None:
        self.users = {"anna": ANNA, "bert": BERT, "root": 0}
        self.groups = {"wheel": WHEEL, "mail": MAIL}
        self.answers = threading.Event()
        self.answers.set()

    def uid(self, name: str) -> int | None:  # noqa: D102 - see access.Accounts
        assert self.answers.wait(20)
        return self.users.get(name)

    def gid(self, name: str) -> int | None:  # noqa: D102 - see access.Accounts
        assert self.answers.wait(20)
        return self.groups.get(name)

    def user(self, uid: int) -> str | None:  # noqa: D102 - see access.Accounts
        assert self.answers.wait(20)
        return next((name for name, number in self.users.items() if number == uid), None)


def local(uid: int, *groups: int, login: int | None = None) -> LocalCaller:
    return LocalCaller(uid, frozenset(groups), login)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - nothing is set that could be waited for
            await asyncio.sleep(0)


def story(
    section: Section, names: Names, tell: Callable[[Access], Awaitable[None]], name_s: float = 20, again_s: float = 60
) -> None:
    async def told() -> None:
        access = Access(section, names, name_s=name_s, again_s=again_s)
        await access.start()
        try:
            await tell(access)
        finally:
            names.answers.set()
            await access.stop()

    asyncio.run(told())


@pytest.mark.parametrize(
    ("caller", "role"),
    [
        (local(0), Role.ADMINISTER),
        (local(os.geteuid()), Role.ADMINISTER),
        (local(ANNA, 100), Role.OPERATE),
        (local(BERT, MAIL), Role.ADMINISTER),
        (local(CARL, 100, WHEEL, MAIL), Role.OPERATE),
        (local(CARL, MAIL), Role.VIEW),
        (local(CARL, ANNA, BERT), None),  # groups of the same number
        (local(WHEEL), None),
        (local(CARL, login=ANNA), None),  # who logged in gives nobody a role
        (RemoteCaller("dora", "192.0.2.7"), Role.OPERATE),
        (RemoteCaller("emil", "192.0.2.7"), Role.VIEW),
        (RemoteCaller("anna", "192.0.2.7"), None),  # a user of the node is nobody elsewhere
        (RemoteCaller("", "192.0.2.7"), None),
    ],
)
def test_a_role_is_the_highest_that_user_or_groups_have(caller: Caller, role: Role | None) -> None:
    async def tell(access: Access) -> None:
        await until(lambda: not access.refused())
        assert access.role_of(caller) is role
        for needed in Role:
            refused = await access.refusal(caller, needed)
            assert (refused is None) == (role is not None and role >= needed)

    story(SECTION, Names(), tell)


def test_a_refusal_says_who_it_is_what_is_needed_and_which_key_gives_it() -> None:
    async def tell(access: Access) -> None:
        await until(lambda: not access.refused())
        refused = await access.refusal(local(ANNA), Role.ADMINISTER)
        assert refused is not None
        assert (refused.code, refused.who, refused.role, refused.needs) == (
            "ACCESS_DENIED",
            "anna",
            "operate",
            "administer",
        )
        assert refused.key == "access.administer.users or access.administer.groups"
        assert refused.reason == f"anna may operate, and this takes administer: {refused.key} would give it"
        stranger = await access.refusal(local(CARL), Role.VIEW)
        assert stranger is not None
        assert stranger.reason.startswith("uid 4003 has no role here, and this takes view: ")
        person = await access.refusal(RemoteCaller("emil", "192.0.2.7"), Role.OPERATE)
        assert person is not None
        assert (person.who, person.key) == ("emil (certificate)", "access.remote.people.emil")
        node = await access.refusal(RemoteCaller("", "192.0.2.7"), Role.VIEW)
        assert node is not None
        assert (node.who, node.role) == ("no operator (from 192.0.2.7)", "")
        assert f"OU={OPERATORS}" in node.reason

    story(SECTION, Names(), tell)


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        (local(0), "root"),
        (local(0, login=ANNA), "anna (as root)"),
        (local(ANNA, login=ANNA), "anna"),
        (local(CARL, login=ANNA), "anna (as uid 4003)"),
        (local(0, login=CARL), "uid 4003 (as root)"),
        (RemoteCaller("dora", "192.0.2.7"), "dora (certificate)"),
    ],
)
def test_a_caller_is_called_by_its_user_and_by_who_logged_in(caller: Caller, name: str) -> None:
    async def tell(access: Access) -> None:
        assert await access.name_of(caller) == name

    story(SECTION, Names(), tell)


def test_no_name_is_longer_than_the_record_takes() -> None:
    names = Names()
    names.users |= {"a" * 200: CARL}

    async def tell(access: Access) -> None:
        for caller in (local(CARL), local(0, login=CARL), local(CARL, login=0)):
            assert len(await access.name_of(caller)) <= LONGEST
        longest = next(iter(Section(remote=Remote(people={"d" * 48: "view"})).remote.people))
        assert len(await access.name_of(RemoteCaller(longest, "192.0.2.7"))) <= LONGEST

    story(SECTION, names, tell)


def test_a_name_service_that_hangs_holds_up_nothing() -> None:
    names = Names()
    names.answers.clear()

    async def tell(access: Access) -> None:
        (finding,) = access.refused()
        assert (finding.code, "still being looked up" in finding.reason) == ("ACCESS_UNKNOWN", True)
        assert access.role_of(local(0)) is Role.ADMINISTER
        assert access.role_of(local(ANNA)) is None
        assert await access.name_of(local(0, login=ANNA)) == "uid 4001 (as uid 0)"
        names.answers.set()
        await until(lambda: not access.refused())
        assert access.role_of(local(ANNA)) is Role.OPERATE
        await until(lambda: not access._caller.busy)
        assert await access.name_of(local(ANNA)) == "anna"
        names.answers.clear()
        assert await access.name_of(local(ANNA)) == "anna", "a name that was found is found again"

    story(SECTION, names, tell, name_s=0.05)


def test_whom_this_node_does_not_know_is_a_finding_and_gets_nobody_in() -> None:
    names = Names()
    del names.users["anna"], names.groups["mail"]

    async def tell(access: Access) -> None:
        await until(lambda: access._known)
        (finding,) = access.refused()
        assert finding.code == "ACCESS_UNKNOWN"
        assert "access.view.groups mail, access.operate.users anna" in finding.reason
        assert access.role_of(local(ANNA, MAIL)) is None
        assert access.role_of(local(CARL, WHEEL)) is Role.OPERATE
        names.users["anna"], names.groups["mail"] = ANNA, MAIL
        await until(lambda: not access.refused())
        assert access.role_of(local(ANNA)) is Role.OPERATE

    story(SECTION, names, tell, again_s=0.01)


def test_whom_a_reload_leaves_out_is_out_at_once() -> None:
    names = Names()

    async def tell(access: Access) -> None:
        await until(lambda: not access.refused())
        names.answers.clear()  # from here on nothing can be looked up
        access.reload(Section(operate=SECTION.operate, administer=Admitted(users=("root",))))
        assert access.role_of(local(BERT)) is None
        assert access.role_of(local(CARL, MAIL)) is None
        assert access.role_of(local(ANNA)) is Role.OPERATE, "of whom nothing was taken away"
        assert access.role_of(RemoteCaller("dora", "192.0.2.7")) is None

    story(SECTION, names, tell)


def test_nobody_named_is_nobody_to_look_up() -> None:
    async def tell(access: Access) -> None:
        assert (access.names_others, access.refused()) == (False, ())
        assert access.role_of(local(ANNA)) is None

    story(Section(), Names(), tell)


# ---- who logged in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("login", "status", "found"),
    [
        ("4001", "Name:\tx\nUid:\t0\t0\t0\t0\n", 4001),
        ("4294967295", "Name:\tx\nUid:\t0\t0\t0\t0\n", None),  # a service
        ("4001", "Name:\tx\nUid:\t0\t4002\t0\t0\n", None),  # another process has the number now
        ("", "Name:\tx\nUid:\t0\t0\t0\t0\n", None),
        ("4001", "", None),
    ],
)
def test_a_login_is_that_of_a_process_with_the_user_that_connected(
    tmp_path: Path, login: str, status: str, found: int | None
) -> None:
    process = tmp_path / "77"
    process.mkdir()
    (process / "loginuid").write_text(login)
    (process / "status").write_text(status)
    assert login_of(77, 0, tmp_path) == found
    assert login_of(78, 0, tmp_path) is None


# ---- certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "node", "operator"),
    [
        ([("commonName", "mail1")], "mail1", None),
        ([("organizationalUnitName", OPERATORS), ("commonName", "anna")], None, "anna"),
        ([("organizationalUnitName", "mail"), ("commonName", "anna")], "anna", None),
        ([("organizationalUnitName", "x"), ("organizationalUnitName", OPERATORS), ("commonName", "a")], None, "a"),
        ([("organizationalUnitName", OPERATORS), ("commonName", "a"), ("commonName", "b")], None, None),
        ([], None, None),
    ],
)
def test_a_certificate_is_a_node_s_or_an_operator_s_and_never_both(
    subject: list[tuple[str, str]], node: str | None, operator: str | None
) -> None:
    shown = {"subject": tuple((pair,) for pair in subject)}
    assert (node_name(shown), operator_name(shown)) == (node, operator)


# ---- what is recorded ------------------------------------------------------------------------------------------------


class _Clock:
    at_ms = 0

    def now_ms(self) -> int:
        return self.at_ms


def test_every_refusal_is_counted_and_few_are_recorded() -> None:
    clock = _Clock()
    denials = Denials(clock)
    assert denials.worth_a_record("socket", "carl", "POST /v1/promote") == 0
    for _ in range(500):
        assert denials.worth_a_record("socket", "carl", "POST /v1/promote") is None
    assert denials.worth_a_record("192.0.2.7", "emil (certificate)", "POST /v1/pause") == 500
    recorded = [denials.worth_a_record("192.0.2.8", f"p{i}", "GET /v1/status") for i in range(100)]
    assert sum(known is not None for known in recorded) == AT_MOST - 2
    assert denials.counted == {"socket": 501, "remote": 101}
    clock.at_ms = AGAIN_MS
    assert denials.worth_a_record("socket", "carl", "POST /v1/promote") == 100 - (AT_MOST - 2)
