"""Certificates beside those between the nodes are told of too: the public port's, and the CA of operators elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
import views
from access_stage import configured
from node_certificates import Authority
from public_stage import HERE
from public_stage import Stage as PublicStage
from trust_stage import ARBITER, TrustStage

from failoverd.lives import Life, shown
from failoverd.runtime.access import Access
from failoverd.runtime.clock import BootClock
from failoverd.runtime.controller import NodeController
from failoverd.runtime.door import Door
from failoverd.runtime.remote import RemoteServer
from failoverd.tls import public_context

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400
TEN_DAYS = range(9 * DAY_S, 11 * DAY_S)


def left_s(life: Life) -> int:
    """How long it is good from now on."""
    return int(life.ends_s - time.time())


@pytest.mark.parametrize("days", [10, -1])
def test_the_dates_of_a_certificate_are_known_without_its_ca_and_whatever_they_are(tmp_path: Path, days: int) -> None:
    files = Authority(tmp_path).node("mail.lab.test", days=days)
    life = shown("http", files.certificate, public_context(certificate=files.certificate, key=files.key))
    assert life is not None
    assert abs(left_s(life) - days * DAY_S) < 600


def test_one_that_is_no_servers_has_no_dates_here(tmp_path: Path) -> None:
    files = Authority(tmp_path).operator("anna")
    assert shown("http", files.certificate, public_context(certificate=files.certificate, key=files.key)) is None


def test_the_public_port_knows_how_long_its_certificate_is_good(config_file: Path, tmp_path: Path) -> None:
    files = Authority(tmp_path).node("mail2", HERE)
    tls = f"http: {{certificate: {files.certificate}, key: {files.key}"
    files.certificate.chmod(0o600)
    config_file.write_text(config_file.read_text().replace("http: {enabled: true", tls, 1))
    stage = PublicStage(config_file, views.view("mail2"))

    async def story() -> None:
        assert stage.server.lives() == ()
        await stage.server.start()
        (life,) = stage.server.lives()
        assert life.of == "http"
        assert left_s(life) in TEN_DAYS
        await stage.server.stop()

    asyncio.run(story())


@pytest.mark.parametrize("own", [True, False])
def test_the_ca_of_operators_is_looked_at_where_it_is_not_that_of_the_nodes(
    config_file: Path, tmp_path: Path, own: bool
) -> None:
    node, other = Authority(tmp_path), Authority(tmp_path, "people")
    config = configured(config_file, node.node("mail1"), "{anna: view}", ca=other.ca if own else None)
    remote = RemoteServer(config, Door(Access(), [], lambda *_: None), address="127.0.0.1", port=0)

    async def story() -> None:
        await remote.start()
        assert [life.of for life in remote.lives()] == (["operators"] if own else [])
        assert all(left_s(life) in TEN_DAYS for life in remote.lives())
        await remote.stop()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("of", "what", "ended"),
    [
        ("http", "the certificate of the public port", "HTTP_CERTIFICATE"),
        ("operators", "the CA of operators elsewhere", "ACCESS_REMOTE"),
    ],
)
def test_the_end_is_warned_of_before_and_hinders_no_failover(
    config_file: Path, tmp_path: Path, of: str, what: str, ended: str
) -> None:
    stage = TrustStage(config_file, tmp_path)  # warns a day before
    now = time.time()
    lives: list[Life] = []
    stage.trust.look_at(lambda: lives)

    async def tell(stage: TrustStage) -> None:
        controller = NodeController(
            stage.node.daemon, stage.cluster.configs[ARBITER], BootClock(), refused=stage.trust.refused
        )
        for left, codes in ((2 * DAY_S, []), (DAY_S / 2, ["CERT_EXPIRES"]), (-60, [ended])):
            lives[:] = [Life(of, 0, now + left)]
            found = [one for one in controller.check().findings if what in one.reason]
            assert [(one.code, one.blocks) for one in found] == [(code, False) for code in codes]
            assert stage.trust.lives()[-1] == lives[0], "and /metrics has it"

    stage.run(tell)
