"""What is said to etcd's JSON gateway, and what its answers mean: bytes in and out, no I/O.

    PREFIX CLUSTER/record                             the record, with the stamp of whoever wrote it (wire.Stamped)
    PREFIX CLUSTER/anchors/TERM/NODE/MOMENT/first     see stores/etcd_anchors.py
                                            newest

The gateway: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/ . Keys and values are in base64, 64-bit numbers are
texts, and what is at its default is left out.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

RANGE, TXN, WATCH, DELETE = "/v3/kv/range", "/v3/kv/txn", "/v3/watch", "/v3/kv/deleterange"
AUTHENTICATE, STATUS = "/v3/auth/authenticate", "/v3/maintenance/status"
_SIMPLE_TOKEN = re.compile(r"[^.]+\.([0-9]{1,19})")


class EtcdAnswerError(Exception):
    """An answer that is none of etcd's; the text says what was wrong."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as it stands: its bytes, and the revision of etcd's at which it was last written."""

    key: bytes
    value: bytes
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. `revision` is etcd's own, of its whole store; `swapped` of a transaction; `count` of all in range."""

    revision: int
    found: tuple[KeyValue, ...] = ()
    swapped: bool = False
    count: int = 0


@dataclass(frozen=True, slots=True)
class Watched:
    """A message of a watch. `ended`: why etcd has ended it, "" while it lasts; `compacted`: it began too long ago."""

    revision: int
    put: tuple[KeyValue, ...] = ()
    deleted: bool = False
    ended: str = ""
    compacted: bool = False


def key_of(prefix: str, cluster: str, *parts: str) -> bytes:
    """A key of a cluster's. The slash after the cluster keeps `lab` from reaching what is of `lab2`."""
    return (prefix + "/".join((cluster, *parts))).encode()


def end_of(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with `prefix`, which is not empty and does not end in 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def read(key: bytes) -> bytes:
    """Ask for one key, linearizably: `serializable` is not said."""
    return _json({"key": _text(key)})


def read_below(
    prefix: bytes, *, limit: int = 0, after: bytes = b"", keys_only: bool = False, oldest_first: bool = False
) -> bytes:
    """Ask for all keys below a prefix. `after`: those behind this key; `oldest_first`: as they were last written."""
    start = after + b"\0" if after else prefix
    asked: dict[str, object] = {"key": _text(start), "range_end": _text(end_of(prefix))}
    if limit:
        asked["limit"] = str(limit)
    if keys_only:
        asked["keys_only"] = True
    if oldest_first:
        asked |= {"sort_order": "ASCEND", "sort_target": "MOD"}
    return _json(asked)


def read_each(keys: Iterable[bytes]) -> bytes:
    """Ask for these keys, each by itself, as of one moment and linearizably; etcd takes 128 at once."""
    return _json({"success": [{"request_range": _at(key)} for key in keys]})


def swap(key: bytes, old: bytes | None, new: bytes) -> bytes:
    """Put `new` where the very bytes of `old` stand, or nothing (None); else say what stands."""
    return _json(
        {"compare": [_stands(key, old)], "success": [_put(key, new)], "failure": [{"request_range": _at(key)}]}
    )


def put_first_or_newest(first: bytes, newest: bytes, value: bytes) -> bytes:
    """Put `value` at `first` where nothing is there yet, else at `newest`."""
    return _json({"compare": [_stands(first, None)], "success": [_put(first, value)], "failure": [_put(newest, value)]})


def delete(keys: list[bytes]) -> bytes:
    """Delete these keys, as a transaction."""
    return _json({"success": [{"request_delete_range": _at(key)} for key in keys]})


def watch(key: bytes, revision: int) -> bytes:
    """Ask for all changes of a key from etcd's `revision` on."""
    return _json({"create_request": {**_at(key), "start_revision": str(revision)}})


def authenticate(user: str, password: str) -> bytes:
    """Ask for a token."""
    return _json({"name": user, "password": password})


def token_of(body: bytes) -> str:
    """The token in an answer. Raises EtcdAnswerError."""
    token = _object(_loads(body)).get("token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise EtcdAnswerError("no token")
    return token


def index_of(token: str) -> int:
    """How far etcd's log was when it gave the token; 0 of a token that does not say (etcd's --auth-token jwt).

    A member that has not come that far lets a request with the token wait until it has.
    """
    match = _SIMPLE_TOKEN.fullmatch(token)
    return int(match[1]) if match else 0


def applied_of(body: bytes) -> int:
    """How far in etcd's log a member is, as its status says. Raises EtcdAnswerError."""
    return _number(_object(_loads(body)), "raftAppliedIndex")


def said(body: bytes) -> Said:
    """What a range or a transaction was answered with. Raises EtcdAnswerError."""
    answer = _object(_loads(body))
    found, count = _found(answer), _number(answer, "count")
    for response in _list(answer, "responses"):
        ranged = _object(_object(response).get("response_range", {}))
        found += _found(ranged)
        count += _number(ranged, "count")
    return Said(
        _number(_object(answer.get("header", {})), "revision"), tuple(found), answer.get("succeeded") is True, count
    )


def watched(line: bytes) -> Watched:
    """One message of a watch. Raises EtcdAnswerError."""
    answer = _object(_loads(line))
    if "error" in answer:
        return Watched(0, ended=error_of(line))
    result = _object(answer.get("result", {}))
    revision = _number(_object(result.get("header", {})), "revision")
    if result.get("canceled") is True:
        compacted = _number(result, "compact_revision") > 0
        why = str(result.get("cancel_reason", "")) or ("compacted" if compacted else "canceled")
        return Watched(revision, ended=why[:200], compacted=compacted)
    put: list[KeyValue] = []
    deleted = False
    for event in map(_object, _list(result, "events")):
        if event.get("type") == "DELETE":
            put, deleted = [], True
        else:
            put.append(_key_value(event.get("kv")))
            deleted = False
    return Watched(revision, tuple(put), deleted)


def error_of(body: bytes) -> str:
    """Whatever etcd has refused, in its own words; of an answer that is none, its beginning."""
    try:
        answer = json.loads(body)
        error = answer.get("error", answer.get("message"))
        words = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, AttributeError, RecursionError):
        words = ""
    text = words if isinstance(words, str) and words else body[:200].decode(errors="replace")
    return text[:200]


def _stands(key: bytes, value: bytes | None) -> dict[str, object]:
    if value is None:
        return {"key": _text(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
    return {"key": _text(key), "target": "VALUE", "result": "EQUAL", "value": _text(value)}


def _put(key: bytes, value: bytes) -> dict[str, object]:
    return {"request_put": {"key": _text(key), "value": _text(value)}}


def _at(key: bytes) -> dict[str, object]:
    return {"key": _text(key)}


def _json(asked: dict[str, object]) -> bytes:
    return json.dumps(asked, separators=(",", ":")).encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _loads(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EtcdAnswerError(f"no JSON: {error}"[:200]) from None


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EtcdAnswerError(f"an object was expected, not {type(value).__name__}")
    return value


def _list(answer: dict[str, Any], name: str) -> list[Any]:
    value = answer.get(name, [])
    if not isinstance(value, list):
        raise EtcdAnswerError(f"{name}: a list was expected, not {type(value).__name__}")
    return value


def _number(answer: dict[str, Any], name: str) -> int:
    value = answer.get(name, "0")
    text = str(value)
    if not isinstance(value, str | int) or not text.isascii() or not text.isdigit() or len(text) > 19:
        raise EtcdAnswerError(f"{name}: a number was expected")
    return int(text)


def _found(answer: dict[str, Any]) -> list[KeyValue]:
    return [_key_value(one) for one in _list(answer, "kvs")]


def _key_value(value: object) -> KeyValue:
    one = _object(value)
    return KeyValue(_bytes(one, "key"), _bytes(one, "value"), _number(one, "mod_revision"))


def _bytes(answer: dict[str, Any], name: str) -> bytes:
    value = answer.get(name, "")
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else _none(name)
    except (binascii.Error, ValueError):
        return _none(name)


def _none(name: str) -> bytes:
    raise EtcdAnswerError(f"{name}: base64 was expected")
