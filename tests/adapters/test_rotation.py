"""Certificates, keys and CAs that are replaced while everything runs: nothing restarts, no request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import time
from typing import TYPE_CHECKING

import pytest
from node_certificates import Authority, Files
from trust_stage import ARBITER, MAIL1, MAIL3, TrustStage, until

from failoverd.core.findings import Severity
from failoverd.credentials import Credentials, newest
from failoverd.https import Link
from failoverd.runtime import fitness
from failoverd.runtime.clock import BootClock
from failoverd.runtime.controller import NodeController
from failoverd.runtime.ours import credentials_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DAY_S = 86_400


class Asking:
    """A member that asks the store without a pause, as often as it is answered."""

    def __init__(self, stage: TrustStage) -> None:
        self.credentials = credentials_of(stage.cluster.configs[MAIL3])
        self._link = Link(stage.address, stage.ports["peer"], self.credentials.client)
        self.answers: list[int] = []

    @contextlib.asynccontextmanager
    async def without_end(self) -> AsyncIterator[None]:
        """Until the end of the block. Raises LinkError where one was not answered."""
        task = asyncio.ensure_future(self._ask())
        try:
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._link.close()

    async def _ask(self) -> None:
        while True:
            answer = await self._link.request("GET", "/store/v1/lab", deadline_ms=5000)
            self.answers.append(answer.status)
            await asyncio.sleep(0.002)

    async def more(self) -> None:
        """Wait for some more answers."""
        before = len(self.answers)
        await until(lambda: len(self.answers) > before + 20)

    def contexts(self) -> set[ssl.SSLContext | None]:
        """With what its kept connections were made."""
        return {connection.context for connection in (*self._link._idle, *self._link._busy)}


async def shown(stage: TrustStage, port: str, ca: Path) -> int:
    """The serial number of the certificate that a port shows."""
    context = stage.client(MAIL3)
    context.load_verify_locations(ca)
    reader, writer = await asyncio.open_connection(stage.address, stage.ports[port], ssl=context)
    del reader
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return int(found, 16)


def put(files: Files, there: Files) -> None:
    """Put certificate and key in the place of others, each by a rename."""
    for source, target in ((files.certificate, there.certificate), (files.key, there.key)):
        new = target.with_name(f".{target.name}.new")
        shutil.copy(source, new)
        new.replace(target)


def test_a_new_certificate_is_in_force_without_a_request_lost(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        authority, asking = stage.cluster.authority, Asking(stage)
        before = {port: await shown(stage, port, authority.ca) for port in stage.ports}
        async with asking.without_end():
            await asking.more()
            authority.node(MAIL1, stage.address)
            await stage.trust.look(files=True)
            assert stage.drill_credentials.renew()
            await asking.more()
            for port in stage.ports:
                assert await shown(stage, port, authority.ca) != before[port], port
            authority.node(MAIL3, stage.local(MAIL3)[0])
            assert asking.credentials.renew()
            await asking.more()
            # None of the connections that were made before is used any more, at either end.
            assert asking.contexts() == {newest(asking.credentials.client)}
            await until(lambda: not stage.of_former_credentials())
        assert set(asking.answers) == {200}
        assert stage.refusals.counts == {}
        assert stage.node.audited("certificate")

    stage.run(tell)


def test_a_ca_is_changed_in_three_steps_without_a_request_lost(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)
    (tmp_path / "next").mkdir()

    async def tell(stage: TrustStage) -> None:
        new, asking = Authority(tmp_path / "next", "next"), Asking(stage)
        ca = stage.files(MAIL1).ca  # all nodes read the same file here
        old_ca, new_ca = ca.read_bytes(), new.ca.read_bytes()
        former = stage.client(MAIL3)
        former.check_hostname, former.verify_mode = False, ssl.CERT_NONE  # it is the server who is to refuse

        async def taken() -> None:
            await stage.trust.look(files=True)
            asking.credentials.renew()
            assert (stage.credentials.problem, asking.credentials.problem) == ("", "")
            await asking.more()

        async with asking.without_end():
            await asking.more()
            ca.write_bytes(old_ca + new_ca)
            await taken()
            for name in (MAIL1, MAIL3):
                address = stage.cluster.configs[name].this.address
                put(new.node(name, address), stage.files(name))
                await taken()
            ca.write_bytes(new_ca)
            await taken()
            await asking.more()
        assert set(asking.answers) == {200}
        assert stage.refusals.counts == {}
        assert await stage.asked("peer", former) == b""  # the old CA's are strangers now
        await stage.told("PEER_UNTRUSTED", "peer")

    stage.run(tell)


BAD = {
    "a key of another": "key values mismatch",
    "no PEM": "no PEM",
    "not there": "No such file or directory",
    "of another CA": "as a",
    "of another node": "names 'mail3', and this node is mail1",
    "expired": "is valid from",
    "for servers only": "as a client's: unsuitable certificate purpose",
    "no CA": "as a",
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_good_leaves_the_old_in_force_and_says_so(config_file: Path, tmp_path: Path, kind: str) -> None:
    stage = TrustStage(config_file, tmp_path)
    (tmp_path / "elsewhere").mkdir()

    async def tell(stage: TrustStage) -> None:
        authority, files = stage.cluster.authority, stage.files(MAIL1)
        good = {path: path.read_bytes() for path in (files.ca, files.certificate, files.key)}
        before = await shown(stage, "peer", files.ca)
        elsewhere = Authority(tmp_path / "elsewhere", "other")
        match kind:
            case "a key of another":
                files.key.write_bytes(stage.files(MAIL3).key.read_bytes())
            case "no PEM":
                files.certificate.write_bytes(b"nonsense")
            case "not there":
                files.key.unlink()
            case "of another CA":
                put(elsewhere.node(MAIL1, stage.address), files)
            case "of another node":
                put(stage.files(MAIL3), files)
            case "expired":
                authority.node(MAIL1, stage.address, days=-1)
            case "for servers only":
                authority.node(MAIL1, stage.address, usages=(Authority.SERVERS,))
            case _:
                files.ca.write_bytes(good[files.certificate])
        await stage.trust.look(files=True)
        (found,) = stage.trust.refused()
        assert found.code == "CERT_REFUSED"
        assert BAD[kind] in found.reason
        assert found.reason.endswith("; the old one is still in use")
        assert await shown_by_old(stage, good[files.ca], tmp_path) == before
        with pytest.raises(ValueError, match=r".+"):
            stage.trust.prepare(stage.config)
        assert len(stage.node.audited("certificate-refused")) <= 1
        for path, content in good.items():
            path.write_bytes(content)
        await stage.trust.look(files=True)
        assert stage.trust.refused() == ()

    stage.run(tell)


async def shown_by_old(stage: TrustStage, ca: bytes, place: Path) -> int:
    """What the port for members shows, to a client that knows the CA as it was."""
    (place / "as-it-was.crt").write_bytes(ca)
    context = ssl.create_default_context(cafile=str(place / "as-it-was.crt"))
    files = stage.files(ARBITER)
    context.load_cert_chain(files.certificate, files.key)
    reader, writer = await asyncio.open_connection(stage.address, stage.ports["peer"], ssl=context)
    del reader
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return int(found, 16)


def made(files: Files, at_s: float, offset_s: float) -> Credentials:
    found = Credentials(
        ca=files.ca,
        certificate=files.certificate,
        key=files.key,
        me="mail1",
        nodes={},
        refusals=None,  # type: ignore[arg-type]  # nobody is dialled
        now=lambda: at_s + offset_s,
    )
    assert found.renew() is False
    return found


@pytest.mark.parametrize(
    ("days", "codes"),
    [
        (-40, ["CERT_NOT_YET", "CERT_NOT_YET"]),
        (0, []),
        (10 - 2, []),
        (10 - 0.5, ["CERT_EXPIRES", "CERT_EXPIRES"]),
        (11, ["CERT_EXPIRED", "CERT_EXPIRED"]),
    ],
)
def test_the_end_is_told_before_and_after_by_the_clock_here(tmp_path: Path, days: float, codes: list[str]) -> None:
    """One's own and the CA, warned of a day before."""
    credentials = made(Authority(tmp_path).node("mail1"), time.time(), days * DAY_S)
    found = credentials.found(DAY_S)
    assert [code for code, _ in found] == codes
    for code, reason in found:
        assert ("the clock here says 20" in reason) == (code != "CERT_EXPIRES")


def test_an_expired_certificate_of_another_node_is_told_here(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        asking = Asking(stage)
        async with asking.without_end():
            await asking.more()
        (seen,) = [life for life in asking.credentials.lives() if life.of == MAIL1]
        asking.credentials._now = lambda: seen.ends_s - DAY_S
        found = asking.credentials.found(2 * DAY_S)
        assert "CERT_EXPIRES" in {code for code, reason in found if "certificate of mail1 is" in reason}

    stage.run(tell)


def test_an_expired_certificate_makes_the_cluster_unfit_and_a_start_is_possible(
    config_file: Path, tmp_path: Path
) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        stage.credentials._now = lambda: stage.credentials.lives()[0].ends_s + 60
        controller = NodeController(
            stage.node.daemon, stage.cluster.configs[ARBITER], BootClock(), refused=stage.trust.refused
        )
        found = [one for one in controller.check().findings if one.code == "CERT_EXPIRED"]
        assert len(found) == 2
        assert all(one.blocks and one.page == "runbooks/codes/CERT_EXPIRED.md" for one in found)
        assert not controller.check().fit
        assert fitness.about("CERT_EXPIRES").severity is Severity.WARNS
        stage.cluster.authority.node(MAIL1, stage.address, days=-1)
        assert [code for code, _ in credentials_of(stage.config).found(0)] == ["CERT_EXPIRED"]

    stage.run(tell)
