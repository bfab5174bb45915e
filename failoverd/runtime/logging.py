"""The log: structlog to standard error, JSON under systemd, readable on a terminal.

What libraries log (uvicorn, asyncio) goes the same way. Lines are written by a thread of their own: a journald that
does not read would otherwise hold up the loop, and with it the lease. When the queue is full, lines are dropped and
counted; the audit, not the log, is the record.

    structlog ─┐
    logging ───┴─> level, time, secrets out, rendered ──> queue ──thread──> standard error
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import re
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import structlog
from pydantic import SecretStr

from failoverd.hiding import HIDDEN, hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from structlog.typing import EventDict, Processor, WrappedLogger

Lines = queue.Queue[logging.LogRecord | None]

QUEUED = 10_000  # lines
GRACE_S = 2.0  # for the rest at the end; a reader that is stuck does not hold up the end either
SECRET_KEY = re.compile(r"passw|secret|token|passphrase|private_key", re.IGNORECASE)
SHORTEST_SECRET = 4  # characters; hiding a shorter one wherever it stands would hide the log
_A_LINE_A_REQUEST = ("httpx", "httpcore")  # two a second where the store is etcd
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # systemd's, sd-daemon(3)


def start(
    secrets: Iterable[SecretStr] = (),
    *,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
    level: int = logging.INFO,
) -> Callable[[], None]:
    """Send both structlog and logging to `stream` (standard error). Return what writes the rest out and ends it.

    `secrets` are hidden wherever they stand, in tracebacks of libraries too.
    """
    output = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a test, or a reload, may start it again
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redactor(secrets),
            *_renderer(output, environment),
        ],
    )
    lines: Lines = queue.Queue(QUEUED)
    handler = _Dropping(lines)
    handler.setFormatter(formatter)
    writer = threading.Thread(target=_write, args=(lines, output), name="log", daemon=True)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _A_LINE_A_REQUEST:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    writer.start()

    def stop() -> None:
        root.handlers[:], root.level = before
        with suppress(queue.Full):
            lines.put(None, timeout=GRACE_S)
        writer.join(GRACE_S)
        if handler.dropped and not writer.is_alive():
            output.write(f"{handler.dropped} lines of the log were dropped: standard error was not read in time\n")
            output.flush()

    return stop


_LATER: list[str] = []  # texts of secrets that came with a reload


def hide(secrets: Iterable[SecretStr]) -> None:
    """Hide these from now on as well."""
    texts = {secret.get_secret_value() for secret in secrets} - set(_LATER)
    _LATER.extend(text for text in texts if len(text) >= SHORTEST_SECRET)


def redactor(secrets: Iterable[SecretStr]) -> Processor:
    """Make the processor that hides secrets: by key, by type, and where their text stands in another."""
    texts = {secret.get_secret_value() for secret in secrets}
    ordered = [text for text in texts if len(text) >= SHORTEST_SECRET]

    def clean(value: object) -> object:
        if isinstance(value, SecretStr):
            return HIDDEN
        if isinstance(value, dict):
            return {key: HIDDEN if SECRET_KEY.search(str(key)) else clean(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [clean(inner) for inner in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        text = value if isinstance(value, str) else repr(value)
        return hidden(text, (*_LATER, *ordered))

    def process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {key: HIDDEN if SECRET_KEY.search(key) else clean(value) for key, value in event.items()}

    return process


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether `stream` is what systemd connected to its journal: JOURNAL_STREAM names device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _renderer(stream: TextIO, environment: Mapping[str, str]) -> list[Processor]:
    if not is_journal(stream, environment):
        plain = structlog.dev.plain_traceback  # the exception is text already, without the secrets
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    json = structlog.processors.JSONRenderer()

    def prioritized(logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Put systemd's priority before the line, so that `journalctl -p` works."""
        return f"<{PRIORITIES.get(str(event.get('level')), 6)}>{json(logger, method, event)!s}"

    return [prioritized]


def _write(lines: Lines, output: TextIO) -> None:
    """Write what is queued, until None. No logging.Handler: at exit Python would wait for one that is stuck."""
    while (record := lines.get()) is not None:
        with suppress(OSError, ValueError):  # nobody is left to tell that standard error is gone
            output.write(f"{record.getMessage()}\n")
            output.flush()


class _Dropping(logging.handlers.QueueHandler):
    """A queue that never waits."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines)
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a line, or count it."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1
