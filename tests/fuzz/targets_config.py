"""Configuration: the YAML file, the files that it names, and what is typed on a command line."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from places import config_file, example, text, written
from pydantic import TypeAdapter, ValidationError
from target import Target

from failoverd.config import ConfigError, load
from failoverd.config.alerts import Receiver
from failoverd.config.plain import plain
from failoverd.config.values import SecretFile
from failoverd.ctl.alone_file import known
from failoverd.ctl.audit import _moment as since
from failoverd.ctl.when import duration_ms, moment
from failoverd.drill import DrillError, accounts

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
YAML = (
    b"cluster: lab\nnodes: [a, b]\n",
    b"a: &a {b: 1}\nc: *a\n",
    b"%YAML 1.1\n---\ncluster: !!str lab\n",
    b"nodes: {mail1: {kind: data, address: 10.0.0.1, priority: 100}}\nvip: {address: 10.0.0.9/24}\n",
    b"database: {socket: /run/x, unit: mariadb.service}\nhttp: {port: 7480}\naudit: {directory: /x}\n",
    b"? [a]\n: b\n",
    b"a: 2026-13-41\nb: 0x1f\nc: 1:20:30\nd: .inf\n",
    b"a: |\n  text\nb: >-\n  folded\n",
)
_secret = TypeAdapter(SecretFile)
_CONTEXT, _SINCE = click.Context(click.Command("show")), click.Option(["--since"])


def _load(data: bytes) -> object:
    return plain(load(written("fuzzed.yaml", data), "mail1"))


def _secret_file(data: bytes) -> object:
    path = written("secret", data)
    path.chmod(0o600)
    return _secret.validate_python(str(path))


def _receiver(data: bytes) -> object:
    url, _, headers = data.partition(b"\n")
    for name, content in (("url", url), ("headers", headers)):
        written(name, content).chmod(0o600)
    here = config_file().parent
    return Receiver.model_validate(
        {"name": "x", "kind": "json", "url_file": f"{here}/url", "headers_file": f"{here}/headers"},
        context={"node": "mail1", "kind": "data"},
    )


def _typed(data: bytes) -> object:
    word = text(data).replace("\0", "")
    try:
        ago = since(_CONTEXT, _SINCE, word)
    except click.BadParameter:
        ago = None
    return duration_ms(word), moment(word, NOW), ago


TARGETS = [
    Target("config-file", "failoverd.yaml", _load, lambda: [example().encode(), *YAML], (ConfigError,), 64 * 1024),
    Target(
        "config-alone",
        "failoverd.yaml, by failoverctl where no daemon answers",
        lambda data: known(written("alone.yaml", data)),
        lambda: [example().encode(), *YAML],
        (),
        64 * 1024,
    ),
    Target(
        "secret-file",
        "a file with a password",
        _secret_file,
        lambda: [b"secret\n", b"secret\r\n", "gehe\u00edm".encode()],
        (ValidationError,),
    ),
    Target(
        "webhook-files",
        "a webhook's URL and headers",
        _receiver,
        lambda: [b"https://h.example.test:8443/x?token=1\nAuthorization: Bearer x\n", b"http://[::1]/\nX-A: b"],
        (ValidationError,),
    ),
    Target(
        "accounts-file",
        "the drill's accounts",
        lambda data: accounts.read(written("accounts", data)),
        lambda: [b"# drill\ndrill1@example.org:secret\ndrill2@example.org:a:b\n"],
        (DrillError,),
    ),
    Target(
        "command-line",
        "durations, moments and positions as operators type them",
        _typed,
        lambda: [b"1d12h", b"+2h", b"03:00", b"2026-03-01T03:00Z", b"2h", b"term-7", b"0-1-500", b"2026-03-01"],
        (),
        200,
    ),
]
