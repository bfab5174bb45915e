"""The load and servers that go wrong: it ends in time, counts what happened, and takes nobody's word that none gave."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import hostile
import pytest
from hostile import Elsewhere
from load_hostile import (
    ACCOUNTS,
    BROKEN,
    ENDLESS,
    HANGING,
    IMAP_STEPS,
    SMTP_STEPS,
    Hostile,
    HostileImap,
    HostileSmtp,
    again_and_again,
    close,
    hang,
    reset,
    says,
    service,
    until,
    wanted,
    world,
)
from node_certificates import Authority

from failoverd.drill.load.users import User

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from load_hostile import Became, Deed

    from failoverd.drill.load.pacing import Kind

SHORT_S = 2.0  # where nothing but the deadline ends it
LONG_S = 30.0  # where it must end by itself
LATE_S = 10.0  # of a machine that has other work


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    servers = Elsewhere()
    yield servers
    servers.settle()
    servers.close()


def kind_of(imap: bool, step: str) -> Kind:
    if not imap:
        return "submit"
    return "fetch" if step == "FETCH" else "append"


def trying(
    elsewhere: Elsewhere, directory: Path, cases: dict[str, tuple[bool, str, Deed]], deadline_s: Callable[[str], float]
) -> dict[str, tuple[Became, Hostile]]:
    """Want one thing of a server of its own for each case, all at the same time."""
    servers = {name: (HostileImap if imap else HostileSmtp)({step: deed}) for name, (imap, step, deed) in cases.items()}

    async def all_(ports: dict[str, int]) -> list[Became]:
        works: list[Awaitable[Became]] = [
            wanted(kind_of(imap, step), service(ports[name]), directory / f"{number}", deadline_s(step))
            for number, (name, (imap, step, _)) in enumerate(cases.items())
        ]
        return await asyncio.gather(*works)

    with ExitStack() as stack:
        ports = {name: stack.enter_context(elsewhere.serving(server)) for name, server in servers.items()}
        found = asyncio.run(all_(ports))
    for (name, server), became in zip(servers.items(), found, strict=True):
        assert server.reached > 0, name
        assert became.elsewhere == 0, name  # it is told of once, in the second that it was meant for
        assert became.late_s < LATE_S, name
        assert [one.message_id for one in became.ledger] == server.acknowledged == [], name
        assert became.tally.latency == {}, name
    return dict(zip(cases, zip(found, servers.values(), strict=True), strict=True))


CASES = {
    f"{'IMAP' if imap else 'SMTP'} {step}": (imap, step)
    for imap, steps in ((True, IMAP_STEPS), (False, SMTP_STEPS))
    for step in steps
}


def every(deeds: dict[str, Deed]) -> dict[str, tuple[bool, str, Deed]]:
    """Each deed at each step."""
    return {f"{name}: {what}": (*case, deed) for name, case in CASES.items() for what, deed in deeds.items()}


@pytest.mark.parametrize("deeds", [HANGING, BROKEN, ENDLESS], ids=["hanging", "broken", "endless"])
def test_whatever_a_server_does_instead_of_answering_it_has_failed_and_a_message_that_was_sent_is_unknown(
    deeds: dict[str, Deed], elsewhere: Elsewhere, tmp_path: Path
) -> None:
    # A session is tried again and again; a message is not, and only what hangs is ended by its deadline.
    found = trying(
        elsewhere,
        tmp_path,
        every(deeds),
        lambda step: LONG_S if step == "message" and deeds is not HANGING else SHORT_S,
    )
    expected = {name: "unknown" if " message: " in name else "failed" for name in found}
    assert {name: became.outcome for name, (became, _) in found.items()} == expected
    assert {name: became.unknown for name, (became, _) in found.items()} == {
        name: int(outcome == "unknown") for name, outcome in expected.items()
    }


# Here, nothing is waited for: what was said is what counts.
SAID: dict[str, tuple[bool, str, Deed, str]] = {
    "FETCH: NO": (True, "FETCH", says(b"{tag} NO it is gone\r\n"), "rejected"),
    "FETCH: unavailable": (True, "FETCH", says(b"{tag} NO [UNAVAILABLE] later\r\n"), "refused"),
    "FETCH: BYE": (True, "FETCH", says(b"* BYE going down\r\n", closes=True), "failed"),
    "FETCH: BYE, unavailable": (True, "FETCH", says(b"* BYE [UNAVAILABLE] later\r\n", closes=True), "refused"),
    "FETCH: another tag": (True, "FETCH", says(b"d99 OK done\r\n"), "failed"),
    "FETCH: an older tag": (True, "FETCH", says(b"d1 OK done\r\n"), "failed"),
    "FETCH: no status": (True, "FETCH", says(b"{tag} FINE done\r\n"), "failed"),
    "APPEND: BAD": (True, "APPEND", says(b"{tag} BAD what?\r\n"), "rejected"),
    "APPEND: quota": (True, "APPEND", says(b"{tag} NO [OVERQUOTA] full\r\n"), "rejected"),
    "APPEND: taken before it was sent": (True, "APPEND", says(b"{tag} OK taken\r\n"), "failed"),
    "APPEND: BYE": (True, "APPEND", says(b"* BYE\r\n", closes=True), "failed"),
    "message: NO": (True, "message", says(b"{tag} NO no\r\n"), "rejected"),
    "message: a bug": (True, "message", says(b"{tag} NO [SERVERBUG] oh\r\n"), "failed"),
    "message: in use": (True, "message", says(b"{tag} NO [INUSE] later\r\n"), "refused"),
    "message: BYE": (True, "message", says(b"* BYE\r\n", closes=True), "unknown"),
    "message: another tag": (True, "message", says(b"d99 OK taken\r\n"), "unknown"),
    "message: an older tag": (True, "message", says(b"d1 OK taken\r\n"), "unknown"),
    "message: no tag": (True, "message", says(b"OK taken\r\n"), "unknown"),
    "message: no status": (True, "message", says(b"{tag} FINE taken\r\n"), "unknown"),
    "message: OK without its end": (True, "message", says(b"{tag} OK taken", closes=True), "unknown"),
    "message: a second go-ahead": (True, "message", says(b"+ go on\r\n"), "unknown"),
    **{
        f"SMTP {step}: {answer}": (False, step, says(f"{answer} that is so\r\n".encode()), outcome)
        for step in SMTP_STEPS
        for answer, outcome in ((421, "refused"), (451, "refused"), (550, "rejected"))
    },
    "SMTP message: of several lines": (False, "message", says(b"452-not\r\n452-now\r\n452 later\r\n"), "refused"),
    "SMTP DATA: taken before it was sent": (False, "DATA", says(b"250 taken\r\n"), "failed"),
    "SMTP message: go on": (False, "message", says(b"354 go on\r\n"), "failed"),
    "SMTP message: no code": (False, "message", says(b"taken\r\n"), "unknown"),
    "SMTP message: a code of no kind": (False, "message", says(b"150 nearly\r\n"), "unknown"),
    "SMTP message: no last line": (False, "message", says(b"250-taken\r\n", closes=True), "unknown"),
    "SMTP message: without its end": (False, "message", says(b"250 taken", closes=True), "unknown"),
}


def test_what_a_server_says_is_what_counts(elsewhere: Elsewhere, tmp_path: Path) -> None:
    found = trying(elsewhere, tmp_path, {name: case[:3] for name, case in SAID.items()}, lambda _: LONG_S)
    assert {name: became.outcome for name, (became, _) in found.items()} == {
        name: case[3] for name, case in SAID.items()
    }
    assert all(became.late_s < 0 for became, _ in found.values())  # none waits for its deadline


class Missing(HostileImap):
    """Has no mailbox, until it is made."""

    made = False

    async def answer(self, writer: asyncio.StreamWriter, step: str, right: bytes, tag: bytes = b"") -> bool:
        """See that it is made."""
        self.made = self.made or step == "CREATE"
        return await super().answer(writer, step, right, tag)

    async def took(self, writer: asyncio.StreamWriter, message: bytes, right: bytes, tag: bytes = b"") -> bool:
        """Take it, where there is one."""
        if self.made:
            return await super().took(writer, message, right, tag)
        writer.write(right.replace(b"OK done", b"NO [TRYCREATE] where?"))
        return True


@pytest.mark.parametrize(
    ("deeds", "outcome"), [({}, "ok"), ({"message": close}, "unknown"), ({"CREATE": close}, "failed")]
)
def test_a_mailbox_that_is_missing_is_made_and_the_second_attempt_counts(
    deeds: dict[str, Deed], outcome: str, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    server = Missing(deeds)
    with elsewhere.serving(server) as port:
        became = asyncio.run(wanted("append", service(port), tmp_path, LONG_S if outcome != "failed" else SHORT_S))
    assert became.outcome == outcome
    assert [one.message_id for one in became.ledger] == server.acknowledged
    assert len(server.acknowledged) == (outcome == "ok")


@pytest.mark.parametrize("kind", ["fetch", "append", "submit"])
def test_what_goes_well_is_in_the_ledger_as_the_server_has_it(kind: Kind, elsewhere: Elsewhere, tmp_path: Path) -> None:
    server = HostileSmtp() if kind == "submit" else HostileImap()
    with elsewhere.serving(server) as port:
        became = asyncio.run(wanted(kind, service(port), tmp_path, LONG_S))
    assert became.outcome == "ok"
    assert sum(became.tally.latency.values()) == 1
    assert [one.message_id for one in became.ledger] == server.acknowledged
    assert len(server.acknowledged) == (kind != "fetch")


# ---- TLS -------------------------------------------------------------------------------------------------------------


def after_hello(deed: Deed) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Read what a client begins TLS with, and go wrong."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        await deed(writer, b"", b"")

    return script


TLS_BROKEN: dict[str, Deed] = {
    "closes": close,
    "resets": reset,
    "hangs": hang,
    "half a record": says(b"\x16\x03\x03\x00\x7a\x02\x00"),
    "another protocol": says(b"* OK IMAP in the clear\r\n"),
    "an alert": says(b"\x15\x03\x03\x00\x02\x02\x28"),
    "zeros without an end": again_and_again(b"\0" * 8192),
    "half a record without an end": again_and_again(b"\0" * 8192, first=b"\x16\x03\x03\xff\xff\x02"),
}


@pytest.mark.parametrize("imap", [True, False], ids=["IMAP", "SMTP"])
def test_tls_that_is_broken_off_has_failed(imap: bool, elsewhere: Elsewhere, tmp_path: Path) -> None:
    async def all_(ports: dict[str, int]) -> list[Became]:
        kind: Kind = "append" if imap else "submit"
        works = (wanted(kind, service(port, tls="implicit"), tmp_path / what, SHORT_S) for what, port in ports.items())
        return await asyncio.gather(*works)

    with ExitStack() as stack:
        ports = {what: stack.enter_context(elsewhere.serving(after_hello(deed))) for what, deed in TLS_BROKEN.items()}
        found = asyncio.run(all_(ports))
    assert {what: became.outcome for what, became in zip(ports, found, strict=True)} == dict.fromkeys(ports, "failed")
    assert all(became.late_s < LATE_S and not became.ledger for became in found)


@pytest.mark.parametrize("imap", [True, False], ids=["IMAP", "SMTP"])
@pytest.mark.parametrize(("deed", "outcome"), [(None, "ok"), (close, "unknown"), (reset, "unknown"), (hang, "unknown")])
def test_inside_tls_all_is_the_same(
    imap: bool, deed: Deed | None, outcome: str, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    files = Authority(tmp_path).node("mail.test")
    server = (HostileImap if imap else HostileSmtp)({} if deed is None else {"message": deed})
    with elsewhere.serving(server, hostile.server_context(files)) as port:
        of = service(port, tls="implicit", ca=files.ca)
        became = asyncio.run(wanted("append" if imap else "submit", of, tmp_path / "run", SHORT_S))
    assert became.outcome == outcome
    assert [one.message_id for one in became.ledger] == server.acknowledged
    assert server.reached == (deed is not None)


def test_a_server_that_does_not_prove_its_name_gets_no_password(elsewhere: Elsewhere, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ours, theirs = Authority(tmp_path), Authority(tmp_path / "other")
    trusted = ours.node("other.test")
    for number, files in enumerate((trusted, theirs.node("mail.test"))):
        server = HostileSmtp()
        with elsewhere.serving(server, hostile.server_context(files)) as port:
            of = service(port, tls="implicit", ca=trusted.ca)
            became = asyncio.run(wanted("submit", of, tmp_path / f"{number}", LONG_S))
        assert became.outcome == "failed"
        assert server.connections == 0  # none got as far as to be greeted


# ---- sessions that are kept up ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "deed",
    [close, reset, says(b"* BYE\r\n", closes=True), says(b"+ idling\r\n* BYE\r\n"), says(b"+ idling\r\n\0\r\n"),
     says(b"{tag} NO IDLE\r\n"), ENDLESS["news without an end"],
     again_and_again(b"* 1 EXISTS\r\n" * 1000, first=b"+ idling\r\n"),
     again_and_again(b"2" * 8192, first=b"+ idling\r\n")],
    ids=["closes", "resets", "BYE", "BYE later", "NULs", "NO", "news", "news later", "a line later"],
)  # fmt: skip
def test_a_session_that_goes_wrong_while_nobody_wants_anything_is_made_anew(
    deed: Deed, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    server = HostileImap({"IDLE": deed})

    async def be_there(port: int) -> None:
        around = world(service(port), tmp_path, LONG_S)
        user = User(around, ACCOUNTS[0])
        being = asyncio.ensure_future(user.run())
        await until(lambda: server.connections >= 3, 30)
        being.cancel()
        await asyncio.gather(being, return_exceptions=True)
        around.ledger.close()

    with elsewhere.serving(server) as port:
        asyncio.run(be_there(port))
