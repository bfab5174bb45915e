"""A real Alertmanager takes what failoverd posts: an alert arrives with its labels, is passed on, and is resolved."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from alert_stage import DISK, LAG, PEACE, Sink, Telling, configured, free_port, receiver, until

from failoverd.notify import herald

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root  # it needs the Debian package, which tests/run installs

CONFIGURATION = """
route: {{receiver: page, group_by: [alertname, node], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: page
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


class Alertmanager:
    """The program, on loopback, that passes on what it gets to a webhook."""

    def __init__(self, directory: Path, page: Sink, port: int = 0) -> None:
        directory.mkdir()
        (directory / "alertmanager.yml").write_text(CONFIGURATION.format(url=page.url))
        self.url = f"http://127.0.0.1:{port or free_port()}"
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus-alertmanager",
                f"--config.file={directory}/alertmanager.yml",
                f"--storage.path={directory}/data",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                "--cluster.listen-address=",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def stop(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(10)
        self._log.close()

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """What it knows, by its own API; nothing while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=2) as answer:  # noqa: S310 - loopback
                return list(json.load(answer))
        except OSError:
            return []

    @property
    def ready(self) -> bool:
        """It answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:  # noqa: S310 - loopback
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def page() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def manager(tmp_path: Path, page: Sink) -> Iterator[Alertmanager]:
    manager = Alertmanager(tmp_path / "alertmanager", page)
    try:
        until(lambda: manager.ready)
        yield manager
    finally:
        manager.stop()


def test_an_alert_arrives_is_passed_on_and_is_resolved(
    config_file: Path, tmp_path: Path, manager: Alertmanager, page: Sink
) -> None:
    def passed_on(status: str) -> list[dict[str, str]]:
        """The labels of what the webhook behind Alertmanager got."""
        found = (alert for body in page.taken for alert in body["alerts"] if alert["status"] == status)
        return [alert["labels"] for alert in found]

    config = configured(config_file, tmp_path / "queue", receiver("manager", manager.url, "alertmanager"))
    with Telling(config, ssl.create_default_context()) as telling:
        telling.stands(LAG, DISK)
        until(lambda: len(manager.alerts) == 2)
        disk = next(alert for alert in manager.alerts if alert["labels"]["alertname"] == "DISK_FULL")
        assert disk["status"]["state"] == "active"
        assert disk["labels"] == {
            "alertname": "DISK_FULL",
            "cluster": "lab",
            "node": "mail3",
            "severity": "critical",
        }
        assert disk["annotations"]["summary"] == "lab mail3: DISK_FULL: / is full"
        assert disk["annotations"]["runbook"] == "runbooks/codes/DISK_FULL.md"
        until(lambda: len(passed_on("firing")) >= 2)
        telling.look = PEACE
        until(lambda: manager.alerts == [])
        until(lambda: {labels["alertname"] for labels in passed_on("resolved")} == {"LAG_WARN", "DISK_FULL"})
    assert len(passed_on("resolved")) == 2


def test_an_alertmanager_that_has_forgotten_all_is_told_again(
    config_file: Path, tmp_path: Path, manager: Alertmanager, page: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps alerts in memory only: one that was restarted learns of them when they are posted again."""
    quick = replace(herald.FORMS["alertmanager"], refresh_ms=500)
    monkeypatch.setattr(herald, "FORMS", {**herald.FORMS, "alertmanager": quick})
    port = int(manager.url.rpartition(":")[2])
    config = configured(config_file, tmp_path / "queue", receiver("manager", manager.url, "alertmanager"))
    with Telling(config, ssl.create_default_context()) as telling:
        telling.stands(DISK)
        until(lambda: len(manager.alerts) == 1)
        manager.stop()
        second = Alertmanager(tmp_path / "another", page, port)
        try:
            until(lambda: len(second.alerts) == 1)
        finally:
            second.stop()
