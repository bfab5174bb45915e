"""Receivers of alerts: their URLs and headers are secrets, in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from failoverd.config import ConfigError, load
from failoverd.notify.herald import order_of, rules_of

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://hooks.example/services/T024/B7/s3cr3t-token"


@pytest.fixture
def with_receivers(config_file: Path, tmp_path: Path) -> Path:
    (tmp_path / "url").write_text(f"{URL}\n")
    (tmp_path / "headers").write_text("Authorization: Bearer s3cr3t-bearer\nX-Team: mail\n")
    for name in ("url", "headers"):
        (tmp_path / name).chmod(0o600)
    receivers = f"""
alerts:
  repeat: never
  receivers:
    - name: desk
      kind: json
      url_file: {tmp_path}/url
      headers_file: {tmp_path}/headers
      min_severity: blocks
  heartbeat: {{receiver: desk}}
"""
    text = config_file.read_text()
    line = next(line for line in text.splitlines() if line.startswith("alerts:"))
    config_file.write_text(text.replace(line, receivers))
    return config_file


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, "mail1")
    return str(caught.value)


def test_a_receiver_and_its_secrets(with_receivers: Path) -> None:
    config = load(with_receivers, "arbiter")
    (desk,) = config.alerts.receivers
    assert desk.url.get_secret_value() == URL
    assert [(name, value.get_secret_value()) for name, value in desk.headers] == [
        ("Authorization", "Bearer s3cr3t-bearer"),
        ("X-Team", "mail"),
    ]
    assert config.alerts.repeat_ms is None
    assert config.alerts.heartbeat is not None
    assert config.alerts.heartbeat.interval_ms == 300_000
    assert {secret.get_secret_value() for secret in config.alerts.secrets} == {URL, "Bearer s3cr3t-bearer", "mail"}
    assert "s3cr3t" not in f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"
    assert order_of(config) == ("arbiter", "mail1", "mail2", "mail3")
    assert rules_of(config).repeat_ms is None


@pytest.mark.parametrize(
    "text", ["hooks.example/s3cr3t", "ftp://s3cr3t/", "https://", "https://a b/s3cr3t", "http://a:0/"]
)
def test_what_is_no_url_is_refused_and_not_shown(with_receivers: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "url").write_text(text)
    message = refused(with_receivers)
    assert "alerts.receivers[0].url_file: the file" in message
    assert "allowed: a file with one URL, http:// or https://, as its only line" in message
    assert "s3cr3t" not in message


@pytest.mark.parametrize("line", ["s3cr3t", "Content-Type: s3cr3t", "Name : s3cr3t", "X: \x01"])
def test_what_is_no_header_is_refused_and_not_shown(with_receivers: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "headers").write_text(f"X-Team: mail\n{line}\n")
    message = refused(with_receivers)
    assert "headers_file" in message
    assert "line 2 of the file is no such header" in message
    assert "s3cr3t" not in message


def test_others_may_not_read_them(with_receivers: Path, tmp_path: Path) -> None:
    (tmp_path / "headers").chmod(0o644)
    assert "others have access to the file (mode 0644); allowed: mode 0600 or 0640" in refused(with_receivers)
