from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path

import structlog
from pydantic import SecretStr

from failoverd.runtime.logging import QUEUED, redactor, start


def test_a_readable_line_where_there_is_no_journal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        stop = start(stream=stream, environment={})
        structlog.get_logger().info("started", node="mail1")
        structlog.get_logger().debug("not shown")
        stop()
    text = (tmp_path / "log").read_text()
    assert "started" in text
    assert "node=mail1" in text
    assert "not shown" not in text
    assert "\x1b" not in text


def test_json_with_its_priority_under_systemd(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = os.fstat(stream.fileno())
        stop = start(stream=stream, environment={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        structlog.get_logger().warning("lag", lag_ms=6200)
        logging.getLogger("uvicorn").error("bad %s", "request")
        logging.getLogger("library").info("text")
        stop()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line[:3] for line in lines] == ["<4>", "<3>", "<6>"]
    assert json.loads(lines[0][3:]).items() >= {"event": "lag", "lag_ms": 6200, "level": "warning"}.items()
    assert json.loads(lines[1][3:])["event"] == "bad request"


def test_no_secret_gets_into_the_log(tmp_path: Path) -> None:
    secret = SecretStr("hunter2hunter2")
    with (tmp_path / "log").open("w") as stream:
        stop = start([secret], stream=stream, environment={})
        log = structlog.get_logger()
        log.info(
            "login with hunter2hunter2", password="unknown-secret", nested={"api_token": "unknown-secret"}, value=secret
        )
        log.info("list", items=["hunter2hunter2", {"a": ("hunter2hunter2",)}], path=Path("/hunter2hunter2"))
        try:
            raise ValueError("hunter2hunter2")  # noqa: TRY301 - the traceback is what is tested
        except ValueError:
            log.exception("failed")
            logging.getLogger("library").exception("failed with %s", "hunter2hunter2")
        stop()
    text = (tmp_path / "log").read_text()
    assert "hunter2hunter2" not in text
    assert "unknown-secret" not in text
    assert "ValueError: ***" in text


def test_a_secret_too_short_does_not_hide_the_log() -> None:
    assert redactor([SecretStr("a")])(None, "", {"event": "a cat"}) == {"event": "a cat"}


def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    """A pipe that nobody reads fills; logging goes on; later the lines and the count of the lost ones come."""
    receiver, sender = os.pipe()
    with os.fdopen(receiver) as reading, os.fdopen(sender, "w") as stream:
        stop = start(stream=stream, environment={})
        log = structlog.get_logger()
        for _ in range(QUEUED + 2000):
            log.info("x" * 100)
        text: list[str] = []
        reader = threading.Thread(target=lambda: text.extend(reading))
        reader.start()
        stop()
        stream.close()
        reader.join(10)
    assert "lines of the log were dropped" in text[-1]
    assert len(text) > QUEUED


def test_requests_to_a_store_are_not_logged_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream:
        stop = start(stream=stream, environment={})
        logging.getLogger("httpx").info("HTTP Request: POST https://192.0.2.11:2379/v3/kv/txn")
        logging.getLogger("httpx").warning("a warning")
        stop()
    assert "HTTP Request" not in path.read_text()
    assert "a warning" in path.read_text()
