"""Section `alerts`: who is told by webhook of what an operator should know."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from failoverd.config.error import wrong
from failoverd.config.section import Section
from failoverd.config.values import (
    LONGEST_SECRET,
    AbsolutePath,
    Label,
    ReadableFile,
    SecretFile,
    duration,
    duration_or_never,
    private_file,
)

HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}): ?([ -~]{1,2000})")
OWN_HEADERS = frozenset(
    {"content-type", "content-length", "host", "idempotency-key", "transfer-encoding", "connection"}
)


def _zero_is_never(value: object) -> object:
    """`repeat: 0` is what many would write."""
    return "never" if value == 0 and not isinstance(value, bool) else value


def _url(secret: SecretStr) -> SecretStr:
    allowed = "a file with one URL, http:// or https://, as its only line"
    try:
        parts = urlsplit(secret.get_secret_value())
        port = parts.port
    except ValueError:
        raise wrong("the file holds no URL", allowed, hide=True) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise wrong("the file holds no URL", allowed, hide=True)
    if " " in secret.get_secret_value() or parts.fragment:
        raise wrong("the file's URL has a space or a fragment", allowed, hide=True)
    return secret


def _headers(value: object) -> tuple[tuple[str, SecretStr], ...]:
    allowed = "a file with lines `Name: value`, of names that failoverd does not set itself"
    content = private_file(value)
    if len(content) > LONGEST_SECRET:
        raise wrong("the file is too large", allowed)
    found = []
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        match = HEADER.fullmatch(line)
        if match is None or match[1].lower() in OWN_HEADERS:
            raise wrong(f"line {number} of the file is no such header", allowed)
        found.append((match[1], SecretStr(match[2])))
    return tuple(found)


class Receiver(Section):
    """One webhook."""

    name: Label
    kind: Literal["alertmanager", "slack", "json"]
    url: Annotated[SecretFile, AfterValidator(_url), Field(alias="url_file")]
    headers: Annotated[
        tuple[tuple[str, SecretStr], ...], BeforeValidator(_headers), Field(alias="headers_file", strict=False)
    ] = ()
    min_severity: Literal["warns", "blocks"] = "warns"
    timeout_ms: Annotated[int, duration("500ms", "1m"), Field(alias="timeout")] = 5000
    ca: ReadableFile | None = None


class AlertQueue(Section):
    """Where what has not been delivered is kept."""

    directory: AbsolutePath = Path("/var/lib/failoverd/alerts")
    limit: Annotated[int, Field(ge=100, le=100_000)] = 1000


class Heartbeat(Section):
    """A message that comes again and again, so that its absence is an alarm."""

    receiver: Label
    interval_ms: Annotated[int, duration("10s", "24h"), Field(alias="interval")] = 300_000


class Alerts(Section):
    """Who is told, and how often. Without receivers nobody is."""

    repeat_ms: Annotated[
        int | None, duration_or_never("1m", "999h"), BeforeValidator(_zero_is_never), Field(alias="repeat")
    ] = 14_400_000
    settle_ms: Annotated[int, duration("1s", "10m"), Field(alias="settle")] = 10_000
    queue: AlertQueue = AlertQueue()
    receivers: Annotated[tuple[Receiver, ...], Field(strict=False, max_length=16)] = ()
    heartbeat: Heartbeat | None = None

    @property
    def secrets(self) -> list[SecretStr]:
        """What no log may show."""
        found = [receiver.url for receiver in self.receivers]
        return found + [value for receiver in self.receivers for _, value in receiver.headers]

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [receiver.name for receiver in self.receivers]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise wrong(f"{name} is named twice", "each receiver once", key=("alerts", "receivers", index, "name"))
        if self.heartbeat is not None and self.heartbeat.receiver not in names:
            raise wrong(
                "is no receiver of this file",
                ", ".join(names) or "the name of one of alerts.receivers",
                key=("alerts", "heartbeat", "receiver"),
            )
        return self
