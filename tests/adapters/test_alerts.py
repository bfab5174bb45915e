"""Alerts against real HTTP servers: dead ones, slow ones, ones that redirect. Nothing is lost, and one resolve each."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from alert_stage import DISK, LAG, LOST, PEACE, SECRET, Answer, Sink, Telling, configured, free_port, receiver, until
from node_certificates import Authority

from failoverd.core.telling import Kind
from failoverd.notify.shelf import FILE, SqliteShelf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTEXT = ssl.create_default_context()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "alerts"


def test_what_each_kind_of_receiver_is_sent(config_file: Path, queue: Path) -> None:
    with Sink() as plain, Sink() as chat, Sink() as manager:
        base = f"http://127.0.0.1:{manager.port}"
        config = configured(
            config_file,
            queue,
            receiver("desk", plain.url),
            receiver("chat", chat.url, "slack", min_severity="blocks"),
            receiver("manager", base, "alertmanager"),
        )
        with Telling(config, CONTEXT) as telling:
            telling.stands(LAG, replace(DISK, reason="</> & <!channel> is full"))
            until(lambda: len(plain.taken) == 2 and len(chat.taken) == 1 and len(manager.taken) >= 2)
            telling.stands(LAG)
            until(lambda: len(plain.taken) == 3 and len(chat.taken) == 2 and len(manager.taken) >= 3)
    first = plain.taken[1]
    assert [(b["status"], b["code"], b["level"]) for b in plain.taken] == [
        ("firing", "DISK_FULL", 1),
        ("firing", "LAG_WARN", 1),
        ("resolved", "DISK_FULL", 2),
    ]
    assert first["id"] == "lab/LAG_WARN/mail2/1" == plain.requests[1].headers["idempotency-key"]
    assert {
        key: first[key] for key in ("cluster", "node", "severity", "reason", "meaning", "fix", "runbook", "more")
    } == {
        "cluster": "lab",
        "node": "mail2",
        "severity": "warns",
        "reason": "1000 ms behind mail1",
        "meaning": "it is behind",
        "fix": "look",
        "runbook": "runbooks/codes/LAG.md",
        "more": "failoverctl check",
    }
    assert first["until"] is None
    assert plain.taken[2]["until"] >= plain.taken[2]["since"] == plain.taken[0]["since"]
    # Slack: only what blocks, and nothing of a reason is a mention or a link.
    assert chat.taken[0]["text"] == "lab mail3: DISK_FULL: &lt;/&gt; &amp; &lt;!channel&gt; is full"
    assert [body["attachments"][0]["color"] for body in chat.taken] == ["#c4314b", "#2e8b57"]
    assert "runbooks/codes/DISK_FULL.md" in chat.taken[0]["attachments"][0]["text"]
    # Alertmanager: the labels of a firing and of its resolve are the same.
    assert {request.path for request in manager.requests} == {"/api/v2/alerts"}
    disk = [alert for body in manager.taken for alert in body if alert["labels"]["alertname"] == "DISK_FULL"]
    labels = {"alertname": "DISK_FULL", "cluster": "lab", "node": "mail3", "severity": "critical"}
    assert all(alert["labels"] == labels for alert in disk)
    assert disk[0]["endsAt"] > disk[0]["startsAt"] == disk[-1]["startsAt"]
    assert disk[-1]["endsAt"] < disk[0]["endsAt"]


def test_a_receiver_that_fails_is_asked_again_and_gets_all_in_order(config_file: Path, queue: Path, sink: Sink) -> None:
    sink.answers = [Answer(500), Answer(503), Answer(408), Answer(425)]
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: len(sink.taken) == 1)
        telling.stands()
        until(lambda: len(sink.taken) == 2)
    assert sink.told == [("firing", "LAG_WARN"), ("resolved", "LAG_WARN")]
    assert [request.status for request in sink.requests] == [500, 503, 408, 425, 200, 200]
    assert len({request.headers["idempotency-key"] for request in sink.requests[:5]}) == 1


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_is_kept_to(config_file: Path, queue: Path, sink: Sink, kind: str) -> None:
    date = int(time.time() + 3)  # a header's dates are whole seconds
    date_s = time.monotonic() + date - time.time()
    at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(date))
    sink.answers = [Answer(429, {"retry-after": "2" if kind == "seconds" else at})]
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: len(sink.taken) == 1)
    refused, taken = sink.requests
    not_before = refused.at + 2 if kind == "seconds" else date_s
    assert taken.at >= not_before - 0.1


def test_a_dead_receiver_holds_up_no_other_and_gets_all_when_it_is_back(
    config_file: Path, queue: Path, sink: Sink
) -> None:
    port = free_port()
    config = configured(config_file, queue, receiver("dead", f"http://127.0.0.1:{port}/"), receiver("desk", sink.url))
    with Telling(config, CONTEXT) as telling:
        for _ in range(2):
            told = len(sink.taken)
            telling.stands(LAG, LOST)
            until(lambda: len(sink.taken) == told + 2)  # noqa: B023 - called before it changes
            telling.stands(LOST)
            until(lambda: len(sink.taken) == told + 3)  # noqa: B023 - likewise
            telling.stands()
            until(lambda: len(sink.taken) == told + 4)  # noqa: B023 - likewise
        (dead, _) = telling.state.receivers
        assert dead.queued == 8
        assert dead.last is not None
        assert dead.last.attempt.reason == "no connection: ECONNREFUSED"
        with Sink(port) as back:
            until(lambda: len(back.taken) == 8)
    assert [body["id"] for body in back.taken] == [body["id"] for body in sink.taken]
    assert len({body["id"] for body in back.taken}) == 8


@pytest.mark.parametrize("answer", [Answer(drip_s=1.0), Answer(silent_s=60.0)], ids=["a byte a second", "silent"])
def test_a_slow_receiver_is_cut_off_and_holds_up_no_other(
    config_file: Path, queue: Path, sink: Sink, answer: Answer
) -> None:
    with Sink() as slow:
        slow.answers = [answer, answer]
        config = configured(config_file, queue, receiver("slow", slow.url, timeout_ms=500), receiver("desk", sink.url))
        with Telling(config, CONTEXT) as telling:
            telling.stands(LAG)
            until(lambda: len(sink.taken) == 1)
            until(lambda: telling.state.receivers[0].last)
            last = telling.state.receivers[0].last
            assert last is not None
            assert last.attempt.reason == "no answer within 0.5 s"
            until(lambda: not slow.answers and slow.taken and slow.requests[-1].status == 200)
            until(lambda: telling.state.receivers[0].queued == 0)
            telling.stands()
            until(lambda: slow.told[-1] == ("resolved", "LAG_WARN"))
    assert len({body["id"] for body in slow.taken}) == 2
    assert sink.told == [("firing", "LAG_WARN"), ("resolved", "LAG_WARN")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_place_is_not_followed_and_nothing_is_lost(
    config_file: Path, queue: Path, sink: Sink, status: int
) -> None:
    with Sink() as other:
        sink.always = Answer(status, {"location": other.url})
        with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
            telling.stands(LAG)
            until(lambda: telling.found.get("alerts:desk", ": ") != ": ")
            assert telling.found["alerts:desk"] == (
                f"ALERT_REDIRECT: desk: answers {status}, a redirect to another place, which is not followed"
            )
            sink.always = Answer()
            until(lambda: sink.told == [("firing", "LAG_WARN")])
            until(lambda: telling.found["alerts:desk"] == ": ")
    assert other.requests == []


def test_a_redirect_on_the_same_host_is_followed(config_file: Path, queue: Path, sink: Sink) -> None:
    sink.answers = [Answer(308, {"location": "/elsewhere"})]
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: len(sink.taken) == 1)
    assert [request.path for request in sink.requests] == [f"/hook/{SECRET}", "/elsewhere"]


def test_a_redirect_in_a_circle_ends(config_file: Path, queue: Path, sink: Sink) -> None:
    sink.always = Answer(307, {"location": "/round"})
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: telling.found.get("alerts:desk", "").startswith("ALERT_REDIRECT: desk: redirects more than 3"))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_a_receiver_refuses_is_a_finding_and_is_told_when_it_takes_messages_again(
    config_file: Path, queue: Path, sink: Sink, status: int
) -> None:
    sink.always = Answer(status)
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: telling.found.get("alerts:desk") == f"ALERT_REFUSED: desk: answers {status}")
        telling.stands()
        until(lambda: telling.state.open == ())
        assert telling.state.receivers[0].queued == 0
        assert [request.status for request in sink.requests] == [status], "a resolve does not come alone"
        sink.always = Answer()
        telling.stands(DISK)
        until(lambda: len(sink.taken) == 3)
        assert telling.found["alerts:desk"] in {": ", f"ALERT_REFUSED: desk: answers {status}"}
        until(lambda: telling.found["alerts:desk"] == ": ")
    assert sink.told == [("firing", "DISK_FULL"), ("firing", "LAG_WARN"), ("resolved", "LAG_WARN")]


def test_what_a_receiver_does_not_understand_is_given_up_and_the_next_is_told(
    config_file: Path, queue: Path, sink: Sink
) -> None:
    sink.answers = [Answer(400)]
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: telling.found.get("alerts:desk") == "ALERT_REFUSED: desk: answers 400")
        telling.stands(LAG, DISK)
        until(lambda: sink.told == [("firing", "DISK_FULL")])
        until(lambda: telling.found["alerts:desk"] == ": ")
        assert telling.state.receivers[0].queued == 0


def test_a_certificate_of_another_name_is_not_accepted_and_nothing_secret_is_told(
    config_file: Path, queue: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authority = Authority(tmp_path)
    files = authority.node("hooks.example", "127.0.0.2")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with Sink(tls=context) as sink, Sink() as plain:
        config = configured(
            config_file, queue, receiver("desk", sink.url, ca=files.ca), receiver("plain", plain.url, kind="slack")
        )
        with Telling(config, CONTEXT) as telling:
            telling.stands(LAG)
            until(lambda: telling.state.receivers[0].last and plain.taken)
            state = telling.state
            last = state.receivers[0].last
            assert last is not None
            assert last.attempt.reason.startswith("its certificate is not accepted: ")
            assert "IP address mismatch" in last.attempt.reason
        assert sink.requests == []
    assert SECRET not in f"{state} {telling.found} {caplog.text}"


def test_what_was_queued_is_told_by_the_next_daemon(config_file: Path, queue: Path) -> None:
    port = free_port()
    config = configured(config_file, queue, receiver("desk", f"http://127.0.0.1:{port}/"))
    with Telling(config, CONTEXT) as telling:
        telling.stands(LAG, DISK)
        until(lambda: telling.state.receivers[0].queued == 2)
    with Sink(port) as sink, Telling(config, CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: len(sink.taken) == 3)
    assert sink.told == [("firing", "DISK_FULL"), ("firing", "LAG_WARN"), ("resolved", "DISK_FULL")]


def test_what_is_open_is_told_again_and_a_reminder_takes_the_place_of_an_older_one(
    config_file: Path, queue: Path
) -> None:
    port = free_port()
    config = configured(config_file, queue, receiver("desk", f"http://127.0.0.1:{port}/"), repeat_ms=100)
    with Telling(config, CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: telling.herald.queued == 2)
        until(lambda: telling.state.open[0][1].repeats > 3)
        assert telling.herald.queued == 2
        with Sink(port) as sink:
            until(lambda: len(sink.taken) >= 3)
            telling.stands()
            until(lambda: sink.told[-1][0] == "resolved")
    assert [status for status, _ in sink.told[:2]] == ["firing", "repeat"]
    assert sum(status == "resolved" for status, _ in sink.told) == 1


def test_a_full_queue_leaves_out_what_is_over_and_says_so(config_file: Path, queue: Path) -> None:
    port = free_port()
    config = configured(config_file, queue, receiver("desk", f"http://127.0.0.1:{port}/"), limit=4)
    with Telling(config, CONTEXT) as telling:
        for _ in range(4):
            telling.stands(LAG, DISK)
            until(lambda: len(telling.state.open) == 2)
            telling.stands(DISK)
            until(lambda: len(telling.state.open) == 1)
        until(lambda: telling.herald.queued <= 4)
        until(lambda: telling.found.get("alerts", "").startswith("ALERTS_DROPPED: "))
        assert telling.herald.dropped == telling.state.dropped > 0
        with Sink(port) as sink:
            until(lambda: telling.herald.queued == 0)
    statuses = [status for status, code in sink.told if code == "LAG_WARN"]
    assert ("firing", "DISK_FULL") in sink.told
    assert statuses == ["firing", "resolved"] * (len(statuses) // 2), "never a lone resolve"


def test_a_damaged_queue_is_put_aside(config_file: Path, queue: Path, sink: Sink) -> None:
    queue.mkdir()
    (queue / FILE).write_bytes(b"SQLite format 3\0" + b"rubbish" * 1000)
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        telling.stands(LAG)
        until(lambda: sink.told == [("firing", "LAG_WARN")])
    assert (queue / FILE).with_suffix(".damaged").exists()


def test_a_queue_that_cannot_be_kept_is_a_finding(config_file: Path, queue: Path, sink: Sink) -> None:
    queue.write_text("a file in the place of the directory")
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        until(lambda: telling.found.get("alerts", "").startswith(f"ALERTS_DISK: {queue}"))
        assert telling.state.problem.startswith("ALERTS_DISK")
        assert telling.state.voice.value == "mute"


def test_a_new_receiver_is_told_what_is_open_and_not_what_is_over(config_file: Path, queue: Path, sink: Sink) -> None:
    with Telling(configured(config_file, queue, receiver("desk", sink.url)), CONTEXT) as telling:
        telling.stands(LAG, DISK)
        until(lambda: len(sink.taken) == 2)
        telling.stands(LAG)
        until(lambda: len(sink.taken) == 3 and telling.herald.queued == 0)  # or the last may come once more
    with Sink() as new:
        config = configured(config_file, queue, receiver("desk", sink.url), receiver("new", new.url))
        with Telling(config, CONTEXT) as telling:
            telling.stands(LAG)
            until(lambda: new.told == [("firing", "LAG_WARN")])
            telling.stands()
            until(lambda: len(new.taken) == 2)
    assert new.told == [("firing", "LAG_WARN"), ("resolved", "LAG_WARN")]
    assert len(sink.taken) == 4


def test_a_change_of_primary_is_told_once_and_what_was_before_is_no_news(
    config_file: Path, queue: Path, sink: Sink
) -> None:
    config = configured(config_file, queue, receiver("desk", sink.url))
    after = replace(PEACE, term=8, holder="mail2", previous="mail1", rule="primary-lost-by-quorum", has_vip=("mail2",))
    with Telling(config, CONTEXT) as telling:
        until(lambda: "PRIMARY_CHANGED/-" in book(telling))
        telling.look = replace(PEACE, lease="ended", serving=frozenset())
        until(lambda: sink.told == [("firing", "PRIMARY_LOST")])
        telling.look = replace(after, serving=frozenset({"mail2"}))
        until(lambda: len(sink.taken) == 3 and telling.herald.queued == 0)  # or the last may come once more
    with Telling(config, CONTEXT) as telling:  # started anew: nothing of it is told again
        telling.look = replace(after, serving=frozenset({"mail2"}), findings=(DISK,))
        until(lambda: len(sink.taken) == 4)
    assert set(sink.told) == {
        ("firing", "PRIMARY_LOST"),
        ("event", "PRIMARY_CHANGED"),
        ("resolved", "PRIMARY_LOST"),
        ("firing", "DISK_FULL"),
    }
    (change,) = (body for body in sink.taken if body["code"] == "PRIMARY_CHANGED")
    assert change["level"] == 8
    assert change["severity"] == "blocks"
    assert change["reason"].startswith(
        "failover: primary-lost-by-quorum; mail2 is primary in term 8, after mail1; nobody served for "
    )


def book(telling: Telling) -> list[str]:
    return list(telling.herald._shelf.book.entries) if telling.herald._shelf is not None else []


def test_a_heartbeat_goes_on_whatever_stands(config_file: Path, queue: Path, sink: Sink) -> None:
    config = configured(config_file, queue, receiver("desk", sink.url), heartbeat_ms=100)
    with Telling(config, CONTEXT) as telling:
        until(lambda: sum(status == "heartbeat" for status, _ in sink.told) >= 3)
        telling.stands(LAG)
        until(lambda: any("1 alerts are open" in body["reason"] for body in sink.taken))
    beats = [body for body in sink.taken if body["status"] == "heartbeat"]
    assert beats[0]["code"] == "ALERTS_ALIVE"
    assert "mail1 is primary in term 7, 0 alerts are open" in beats[0]["reason"]
    assert len({body["id"] for body in beats}) == len(beats)


def test_a_name_that_is_looked_up_for_ever_holds_up_no_other_and_not_the_end(
    config_file: Path, queue: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, asked = socket.getaddrinfo, threading.Event()
    end = threading.Event()

    def hanging(host: str, *arguments: object, **more: object) -> object:
        if host in {"hangs.example", b"hangs.example"}:
            asked.set()
            end.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "at last")
        return found(host, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    config = configured(
        config_file, queue, receiver("far", "https://hangs.example/", timeout_ms=200), receiver("desk", sink.url)
    )
    try:
        with Telling(config, CONTEXT) as telling:
            telling.stands(LAG)
            until(lambda: sink.told == [("firing", "LAG_WARN")] and asked.is_set())
            until(lambda: telling.state.receivers[0].last)
            last = telling.state.receivers[0].last
            assert last is not None
            assert last.attempt.reason == "no answer within 0.2 s"
    finally:
        end.set()


def test_the_queue_and_the_book_are_what_they_were_when_they_are_read_again(tmp_path: Path, config_file: Path) -> None:
    port = free_port()
    queue = tmp_path / "alerts"
    config = configured(config_file, queue, receiver("desk", f"http://127.0.0.1:{port}/"))
    with Telling(config, CONTEXT) as telling:
        telling.stands(LAG, DISK)
        until(lambda: telling.herald.queued == 2)
        telling.stands(LAG)
        until(lambda: telling.herald.queued == 3)
        shelf = telling.herald._shelf
        assert shelf is not None
        before, rows = shelf.book, list(shelf.rows)
    again = SqliteShelf(queue)
    assert (again.book, list(again.rows)) == (before, rows)
    assert [row.message.kind for row in again.rows] == [Kind.FIRING, Kind.FIRING, Kind.RESOLVED]
    again.close()
