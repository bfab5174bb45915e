"""The configuration: one YAML file, the same on every node, refused before anything is touched.

A file is read once, at start. What comes out cannot be changed, holds no wrong value, and has the passwords in it as
SecretStr, which shows none of them.

    YAML ── lines ──> values with their lines ── model ──> sections ── relations ──> Config
                                    a wrong one: ConfigError, one message, with the line
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from failoverd.config.error import ConfigError
from failoverd.config.http import Http
from failoverd.config.lines import Document, Loc, dotted, read_document
from failoverd.config.model import (
    Audit,
    Config,
    Database,
    Disks,
    FenceDevice,
    Fencing,
    Flapping,
    Gate,
    Host,
    ImapService,
    Lease,
    MailStore,
    Mount,
    Peer,
    Rebuild,
    Rejoin,
    SmtpService,
    Vip,
)
from failoverd.config.monitoring import (
    AuthFailures,
    AuthSource,
    Latency,
    Memory,
    Monitoring,
    PostfixCpu,
    SlowQueries,
)
from failoverd.config.store import Store

__all__ = [
    "Audit",
    "AuthFailures",
    "AuthSource",
    "Config",
    "ConfigError",
    "Database",
    "Disks",
    "FenceDevice",
    "Fencing",
    "Flapping",
    "Gate",
    "Host",
    "Http",
    "ImapService",
    "Latency",
    "Lease",
    "MailStore",
    "Memory",
    "Monitoring",
    "Mount",
    "Peer",
    "PostfixCpu",
    "Rebuild",
    "Rejoin",
    "SlowQueries",
    "SmtpService",
    "Store",
    "Vip",
    "load",
    "membership_digest",
    "validated",
]

Shape = TypeVar("Shape", bound=BaseModel)


def load(path: Path, node: str) -> Config:
    """Read `path` as node `node` does. Touches nothing; raises ConfigError, and nothing else."""
    document = read_document(path)
    return validated(Config, path, document, {"node": node, "kind": _kind(document, node)})


def validated(shape: type[Shape], path: Path, document: Document, context: dict[str, object]) -> Shape:
    """A document of `path` as `shape`, a section. Raises ConfigError."""
    try:
        return shape.model_validate(document.data, context=context)
    except ValidationError as error:
        raise _explained(path, document, error, shape) from None


def membership_digest(config: Config) -> str:
    """Return a digest of what all nodes must agree on; a node whose digest differs neither votes nor takes over.

    Not in it: what may differ between nodes (paths, the interface's name) and what harms nobody else (thresholds).
    """
    agreed: dict[str, object] = {
        "cluster": config.cluster,
        "nodes": {name: member.model_dump() for name, member in config.members.items()},
        "vip": config.vip.address_with_prefix,
        "lease": config.lease.model_dump(),
        "store": config.store.identity,
    }
    if config.fencing.required:  # who may be fenced, and how, may differ; whether it is waited for may not
        agreed["fencing"] = {"required": True}
    if config.mail_store.moves:  # one that keeps it while another takes it would be the second user
        mount = config.mail_store.mount
        agreed["mail_store"] = {"kind": config.mail_store.kind, "exclusive": mount.exclusive if mount else None}
    return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()


def _kind(document: Document, node: str) -> object:
    """Return the kind that the file gives a node, before it is known to be one."""
    section: object = document.data
    for key in ("nodes", node, "kind"):
        section = section.get(key) if isinstance(section, Mapping) else None
    return section


# What is wrong, by pydantic's name of the error, and what would be right; {…} is filled from the error's context.
WORDS = {
    "missing": ("the key is missing", "a value"),
    "literal_error": ("is not known", "{expected}"),
    "int_type": ("is no whole number", "a whole number"),
    "float_type": ("is no number", "a number"),
    "bool_type": ("is neither true nor false", "true or false"),
    "string_type": ("is no text", "text; quote it if it looks like a number"),
    "dict_type": ("is no mapping", "a mapping, `key: value`"),
    "model_type": ("is no mapping", "a mapping, `key: value`"),
    "tuple_type": ("is no list", "a list, `[a, b]`"),
    "too_short": ("the list is too short", "{min_length} or more"),
    "too_long": ("the list is too long", "{max_length} at most"),
    "greater_than": ("is too small", "more than {gt}"),
    "greater_than_equal": ("is too small", "{ge} or more"),
    "less_than_equal": ("is too large", "{le} at most"),
}


def _explained(path: Path, document: Document, error: ValidationError, shape: type[BaseModel]) -> ConfigError:
    """Turn pydantic's list into one message: the first in the file, a misspelt key before what is missing for it."""

    def order(details: Mapping[str, Any]) -> tuple[bool, bool, int]:
        kind = details["type"]  # a list is also too short for what is wrong in it
        return kind != "extra_forbidden", kind == "too_short", document.line(details["loc"])

    details = min(error.errors(include_url=False, include_input=False), key=order)
    loc: Loc = tuple(part for part in details["loc"] if part != "[key]")
    context = details.get("ctx", {})
    value = document.texts.get(loc)
    match details["type"]:
        case "extra_forbidden":
            known = _keys_around(loc, shape)
            nearest = difflib.get_close_matches(str(loc[-1]), known, 1, 0.5)
            problem = f"unknown key, did you mean {nearest[0]}?" if nearest else "unknown key"
            allowed, value = ", ".join(known), None
        case "failoverd":
            problem, allowed = context["problem"], context["allowed"]
            if context["key"]:
                loc = context["key"]
                value = document.texts.get(loc)
            if context["hide"]:
                value = None
        case kind:
            problem, allowed = WORDS.get(kind, (details["msg"], ""))
            allowed = allowed.format(**context)
    return ConfigError(path, problem, allowed=allowed, line=document.line(loc), key=dotted(loc), value=value)


def _keys_around(loc: Loc, whole: type[BaseModel]) -> list[str]:
    """Return the keys that may stand where the last one of `loc` does."""
    shape: object = whole
    for part in loc[:-1]:
        if get_origin(shape) is dict:
            shape = get_args(shape)[1]
        elif isinstance(part, int):  # of a list
            shape = get_args(shape)[0]
        elif fields := _fields(shape):
            shape = fields[str(part)].annotation
            if get_origin(shape) is not dict:  # an optional section
                shape = next((inner for inner in get_args(shape) if _fields(inner)), shape)
        if get_origin(shape) is Annotated:
            shape = get_args(shape)[0]
    return list(_fields(shape))


def _fields(shape: object) -> dict[str, FieldInfo]:
    """Return a section's fields by the key that the YAML has for them; nothing for what is no section."""
    if not (isinstance(shape, type) and issubclass(shape, BaseModel)):
        return {}
    return {field.alias or name: field for name, field in shape.model_fields.items()}
