"""What a reload of the configuration puts in force, key by key, and what waits for a restart, and why.

    file ──load──> new ──differences(old, new)──> each RELOADED or with the reason for a restart
                       └─merged(old, new)──> what is in force after it: new where RELOADED, old elsewhere

Reloaded is what is compared with, and how often something is looked at. What other nodes count with, what the kernel
was set by, and what a connection was made with needs a restart: of one node after the other.

What is in force after a reload is neither file: its relations are held as those of a file are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from failoverd.config import relations
from failoverd.config.plain import fields_of, value_of
from failoverd.config.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import PydanticCustomError

    from failoverd.config.model import Config

# Every code of this module. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "CONFIG_REFUSED": "the configuration file was changed and is not taken: the old one goes on"
}

RELOADED = ""
_AGREED = "all nodes must have the same of it: a node that differs neither votes nor takes over"
_START = "it is made at the start"
_KERNEL = "the kernel's gate and the address are set up with it at the start"
_CONNECTED = "the connections to the server are made with it at the start"
_KIND = "it is of another kind, which is settled at the start"
_WHICH = "which services there are is settled at the start"
_PROGRAMS = "failoverd-rebuild and failoverd-donor read it when they start"
_SERVERS = "the servers' waiting for acknowledgements is set up with it"

# A key, or what all keys below one have in common: the longest that fits counts. A test holds it complete.
KEYS: Mapping[str, str] = {
    "cluster": _AGREED,
    "nodes": _AGREED,
    "vip": _KERNEL,
    "store": _AGREED,
    **dict.fromkeys(
        (f"store.{key}" for key in ("endpoints", "ca", "certificate", "key", "user", "password_file")), RELOADED
    ),
    "peer": _START,
    "peer.warn_before": RELOADED,
    "monitoring": _START,
    "lease": _AGREED,
    **{
        f"services.{service}{key}": how
        for service in ("imap", "smtp")
        for key, how in {
            "": _WHICH,
            ".unit": _WHICH,
            ".port": _WHICH,
            ".tls": _WHICH,
            ".ca": _WHICH,
            ".server_name": _WHICH,
            ".interval": RELOADED,
            ".deadline": RELOADED,
            ".failures": RELOADED,
            ".patience": RELOADED,
        }.items()
    },
    "services.imap.user": RELOADED,
    "services.imap.password_file": RELOADED,
    "services.imap.mailbox": RELOADED,
    "services.smtp.recipient": RELOADED,
    "database": _CONNECTED,
    "database.interval": RELOADED,
    "database.deadline": RELOADED,
    "database.failures": RELOADED,
    "database.heartbeat": "every node counts lag in the primary's heartbeats",
    "database.max_lag": RELOADED,
    "database.lag_warn": RELOADED,
    "database.lag_alarm": RELOADED,
    "gate": _KERNEL,
    "mail_store": _START,
    "queue": _START,
    "queue.drain": RELOADED,
    "host": RELOADED,
    "disks": RELOADED,
    "fencing": _START,
    "fencing.required": _AGREED,
    "flapping": RELOADED,
    "rpo": _SERVERS,
    "rpo.go_on_after": RELOADED,
    "audit": _START,
    "alerts": RELOADED,
    "rejoin": RELOADED,
    "rebuild": _PROGRAMS,
    "drill": RELOADED,  # in the daemon; a drill reads it when it begins, and failoverd-drill-agent when it is restarted
    "http": "the listener is made with it at the start",
    "http.allow": RELOADED,
    "access": RELOADED,
    "access.remote": "the listener is made with it at the start",
    "access.remote.people": RELOADED,
    "http.names": RELOADED,
}
# What is in the digest of membership (config.membership_digest).
SAME_EVERYWHERE = ("cluster", "nodes", "vip.address", "lease", "store.kind", "store.node", "store.prefix",
                   "fencing.required", "mail_store.kind", "mail_store.mount", "mail_store.program")  # fmt: skip

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class Difference:
    """One key. `restart`: why it needs one, "" where a reload puts it in force. Secrets are not shown."""

    key: str
    old: object
    new: object
    restart: str
    same_everywhere: bool


def handling(key: str) -> str:
    """RELOADED, or why a restart is needed. What nobody has thought of needs one."""
    found = _longest(key, KEYS)
    return KEYS[found] if found is not None else "nothing is known of reloading it"


def same_everywhere(key: str) -> bool:
    """Whether all nodes must have the same of it."""
    return _longest(key, dict.fromkeys(SAME_EVERYWHERE)) is not None


def _longest(key: str, known: Mapping[str, object]) -> str | None:
    fitting = [prefix for prefix in known if key == prefix or key.startswith(f"{prefix}.")]
    return max(fitting, key=len, default=None)


def differences(old: Config, new: Config) -> tuple[Difference, ...]:
    """What `new` has otherwise, in the order of the file's sections."""
    return tuple(_differences(old, new, ""))


def _differences(old: Section, new: Section, place: str) -> list[Difference]:
    replaced = _replaced(old, new)
    found = []
    for (key, name, before), (_, _, after) in zip(fields_of(old), fields_of(new), strict=True):
        here = f"{place}{key}"
        if isinstance(before, Section) and isinstance(after, Section):
            found += _differences(before, after, f"{here}.")
        elif before != after:
            shown = value_of(name, before), value_of(name, after)
            restart = handling(here) or (_KIND if replaced else RELOADED)
            found.append(Difference(here, *shown, restart, same_everywhere(here)))
    return found


def _replaced(old: Section, new: Section) -> bool:
    """Whether a section is of another kind than it was: then nothing of the new one goes with the old one."""
    return getattr(old, "kind", None) != getattr(new, "kind", None)


def merged(old: Config, new: Config) -> Config:
    """What is in force after a reload. Raises PydanticCustomError (see relations) where that does not hold together."""
    config = _merged(old, new, "")
    for name in ("nodes", "services"):  # made of the fields once, and kept
        config.__dict__.pop(name, None)
    relations.check(config, old.this.name)
    return config


def _merged(old: S, new: S, place: str) -> S:
    if _replaced(old, new):
        return old
    changes: dict[str, object] = {}
    for (key, name, before), (_, _, after) in zip(fields_of(old), fields_of(new), strict=True):
        here = f"{place}{key}"
        if isinstance(before, Section) and isinstance(after, Section):
            changes[name] = _merged(before, after, f"{here}.")
        elif handling(here) == RELOADED:
            changes[name] = after
    return old.model_copy(update=changes)


def in_words(error: PydanticCustomError) -> str:
    """A relation that does not hold, as one line."""
    context = error.context or {}
    key = ".".join(map(str, context.get("key", ())))
    return f"{key}: {context.get('problem')}; allowed: {context.get('allowed')}"
