"""Who may do what, and what they are called: section `access` of the configuration against what is known of a caller.

    names of the file ──look-ups, in a thread──> numbers ──> role of a caller: by number, at each request
    number of a caller ──look-up, in a thread──> its name, for the record ("uid 1001" where that takes too long)

A look-up may go over the network (LDAP), and hang just when the cluster fails over. So none is waited for by anything
but the order that it is for, and that for a second at most; until the names of the file are known, root alone gets in,
and a finding says so. The groups of a caller are those that its process has: nothing is looked up for them.

root always administers, and so does the daemon's own user: both could do it past the socket as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from failoverd.config.access import Access as Section
from failoverd.probes.aside import Aside, ThreadRefusedError
from failoverd.runtime.access_roles import Role
from failoverd.runtime.callers import Caller, LocalCaller
from failoverd.runtime.document_access import Forbidden
from failoverd.runtime.host import Refused
from failoverd.tls import OPERATORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failoverd.config.access import Admitted

NAME_S = 1.0
AGAIN_S = 60.0  # a name that nobody knows may be there by then
LONGEST = 64  # characters of a caller's name, as everywhere in the record
_ACCOUNT = 26  # characters of one account's name: two of them are no longer than that


class Accounts(Protocol):
    """Names and numbers of users and groups. Each may take long. None: there is none."""

    def uid(self, name: str) -> int | None:
        """The number of a user."""
        ...

    def gid(self, name: str) -> int | None:
        """The number of a group."""
        ...

    def user(self, uid: int) -> str | None:
        """The name of a user."""
        ...


class SystemAccounts:
    """Those of this host, wherever it has them from (nsswitch.conf)."""

    def uid(self, name: str) -> int | None:
        """See Accounts; so for the others."""
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
        return None

    def gid(self, name: str) -> int | None:
        """See above."""
        with contextlib.suppress(KeyError):
            return grp.getgrnam(name).gr_gid
        return None

    def user(self, uid: int) -> str | None:
        """See above."""
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
        return None


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers of those whom the file names, by role; and the keys and names that nobody knows here."""

    users: Mapping[Role, frozenset[int]] = field(default_factory=dict)
    groups: Mapping[Role, frozenset[int]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


class Access:
    """Answers for one configuration after the other. Called on the loop."""

    def __init__(
        self,
        section: Section | None = None,
        accounts: Accounts | None = None,
        *,
        name_s: float = NAME_S,
        again_s: float = AGAIN_S,
    ) -> None:
        self._name_s, self._again_s = name_s, again_s
        self._section = section or Section()
        self._accounts = accounts or SystemAccounts()
        self._numbers = _Numbers()
        self._known = False  # whether _numbers is of _section
        self._problem = ""
        self._names: dict[int, str] = {}
        self._file, self._caller = Aside("accounts"), Aside("caller's name")
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    # ---- the file's names -------------------------------------------------------------------------------------------

    @property
    def names_others(self) -> bool:
        """Whether the file names anybody on this node: then the socket is open for all, and this decides."""
        sections = (self._section.view, self._section.operate, self._section.administer)
        return any(admitted.users or admitted.groups for admitted in sections)

    async def start(self) -> None:
        """Begin to look the file's names up; waits for none."""
        self._looking = asyncio.ensure_future(self._look())

    async def stop(self) -> None:
        """Look nothing up any more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def reload(self, section: Section) -> None:
        """Go by another configuration: at once for whom it leaves out, for whom it adds once the names are known."""
        before, self._section = self._section, section
        self._numbers = _kept(before, section, self._numbers)
        self._known = False
        self._changed.set()

    async def _look(self) -> None:
        while True:
            self._changed.clear()
            await self._look_once(self._section)
            wait_s = None if self._known and not self._numbers.unknown else self._again_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _look_once(self, section: Section) -> None:
        if self._file.busy:
            self._problem = "the look-up of an earlier configuration has not come back"
            return
        try:
            numbers = await self._file.run(lambda: _looked_up(section, self._accounts))
        except (OSError, ThreadRefusedError) as error:
            self._problem = f"names cannot be looked up: {error}"
            return
        if section is self._section:
            self._numbers, self._known, self._problem = numbers, True, ""

    def refused(self) -> tuple[Refused, ...]:
        """Whom the file names and this node does not know."""
        if self._known:
            unknown = ", ".join(self._numbers.unknown)
            words = f"not known on this node: {unknown}; nobody gets in by that"
            return (Refused("ACCESS_UNKNOWN", words),) if unknown else ()
        if self._looking is None or not self.names_others:
            return ()
        words = self._problem or "users and groups of section access are still being looked up"
        return (Refused("ACCESS_UNKNOWN", f"{words}; of whom the file has added only root gets in"),)

    # ---- a caller ---------------------------------------------------------------------------------------------------

    def role_of(self, caller: Caller) -> Role | None:
        """What a caller may at most; None: nothing."""
        if not isinstance(caller, LocalCaller):
            given = self._section.remote.people.get(caller.name) if caller.name else None
            return Role[given.upper()] if given is not None else None
        if caller.uid in (0, os.geteuid()):
            return Role.ADMINISTER
        for role in sorted(Role, reverse=True):
            if caller.uid in self._numbers.users.get(role, ()) or caller.groups & self._numbers.groups.get(
                role, frozenset()
            ):
                return role
        return None

    async def name_of(self, caller: Caller) -> str:
        """What a caller is called in the record: `anna`, `anna (as root)`, `anna (certificate)`, `uid 1001`.

        One that nobody may be called stands for a certificate that is nobody's: `no operator (from ADDRESS)`.
        """
        if not isinstance(caller, LocalCaller):
            return f"{caller.name} (certificate)" if caller.name else f"no operator (from {caller.address})"
        name = (await self._account(caller.uid))[:LONGEST]
        if caller.login is None or caller.login == caller.uid:
            return name
        login = await self._account(caller.login)
        return f"{login[:_ACCOUNT]} (as {name[:_ACCOUNT]})"

    async def _account(self, uid: int) -> str:
        """The name of a user. One that was found once is found again: names change less often than look-ups fail."""
        if uid in self._names:
            return self._names[uid]
        found = None
        with contextlib.suppress(TimeoutError, OSError, ThreadRefusedError):
            async with asyncio.timeout(self._name_s), self._turn:
                if not self._caller.busy:
                    found = await self._caller.run(lambda: self._accounts.user(uid))
        if found is None:
            return f"uid {uid}"
        return self._names.setdefault(uid, found)

    async def refusal(self, caller: Caller, needed: Role) -> Forbidden | None:
        """Why a caller may not what takes `needed`; None: it may."""
        has = self.role_of(caller)
        if has is not None and has >= needed:
            return None
        who = await self.name_of(caller)
        if isinstance(caller, LocalCaller):
            key = f"access.{needed.word}.users or access.{needed.word}.groups"
        elif caller.name:
            key = f"access.remote.people.{caller.name}"
        else:
            key = "access.remote.people"
        may = f"may {has.word}" if has is not None else "has no role here"
        why = f"{who} {may}, and this takes {needed.word}: {key} would give it"
        if not isinstance(caller, LocalCaller) and not caller.name:
            why = f"the certificate is no operator's: it takes OU={OPERATORS} and one CN"
        return Forbidden(reason=why, who=who, role=has.word if has is not None else "", needs=needed.word, key=key)


def _admitted(section: Section) -> dict[Role, Admitted]:
    return {Role.VIEW: section.view, Role.OPERATE: section.operate, Role.ADMINISTER: section.administer}


def _looked_up(section: Section, accounts: Accounts) -> _Numbers:
    """Every name of the file as its number; blocking, for as long as the host's name service takes."""
    users, groups, unknown = {}, {}, []
    for role, admitted in _admitted(section).items():
        found = {name: accounts.uid(name) for name in admitted.users}
        shared = {name: accounts.gid(name) for name in admitted.groups}
        users[role] = frozenset(number for number in found.values() if number is not None)
        groups[role] = frozenset(number for number in shared.values() if number is not None)
        unknown += [f"access.{role.word}.users {name}" for name, number in found.items() if number is None]
        unknown += [f"access.{role.word}.groups {name}" for name, number in shared.items() if number is None]
    return _Numbers(users, groups, tuple(unknown))


def _kept(before: Section, after: Section, numbers: _Numbers) -> _Numbers:
    """What may still count of `numbers` before the names of `after` are known: roles of which nobody was left out."""
    kept = [
        role
        for role, admitted in _admitted(after).items()
        if set(_admitted(before)[role].users) <= set(admitted.users)
        and set(_admitted(before)[role].groups) <= set(admitted.groups)
    ]
    return _Numbers({r: numbers.users.get(r, frozenset()) for r in kept},
                    {r: numbers.groups.get(r, frozenset()) for r in kept})  # fmt: skip
