"""What the daemon answers, as an OpenAPI 3.1 document: the public listener and the control socket, each with its tag.

The schemas are those of the dataclasses that are answered, and of the bodies that are understood, by pydantic: nothing
is written down twice but the list of routes. Tests hold that it is a valid document, that it names every route of both
servers and no other, and that what is really answered fits it.
"""

# ruff: noqa: SLF001 - the bodies belong to the handlers that read them, and are named here only to be described

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from failoverd import __version__
from failoverd.runtime import alerting, control, control_orders, document_alerts
from failoverd.runtime import document as doc
from failoverd.runtime.access_roles import ROUTES
from failoverd.runtime.asked import Body
from failoverd.runtime.document_access import Forbidden
from failoverd.runtime.document_history import HistoryDocument
from failoverd.runtime.public_documents import VersionDocument
from failoverd.runtime.public_health import ALLOWED_LAG, METHODS, HealthDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERVERS: dict[str, dict[str, Any]] = {
    "public": {
        "url": "http://{address}:{port}",
        "description": "The public listener of a node: anybody within http.allow, read-only.",
        "variables": {"address": {"default": "127.0.0.1"}, "port": {"default": "7480"}},
    },
    "control": {
        "url": "http+unix://%2Frun%2Ffailoverd%2Fcontrol.sock",
        "description": "The control socket of a node: whom section access names, on the same host.",
    },
    "remote": {
        "url": "https://{address}:{port}",
        "description": "The same from elsewhere, where access.remote is enabled: by a certificate of an operator.",
        "variables": {"address": {"default": "127.0.0.1"}, "port": {"default": "7403"}},
    },
}
BOTH, PUBLIC, CONTROL = ("public", "control", "remote"), ("public",), ("control", "remote")
JSON, LINES, TEXT, EVENTS = "application/json", "application/x-ndjson", "text/plain", "text/event-stream"
PLACE = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Answer:
    """One status. `kind` None: text, or lines that are no JSON of ours."""

    text: str
    kind: Any = None
    media: str = JSON


@dataclass(frozen=True, slots=True)
class Operation:
    """One route and method. `query`: names and what they mean; the first sentence of `text` is the summary."""

    where: tuple[str, ...]
    path: str
    text: str
    answers: Mapping[int, Answer]
    method: Literal["get", "head", "options", "post"] = "get"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


FORBIDDEN = Answer("the caller has not the role that this takes; not on the public listener", Forbidden)
UNDERSTOOD = Answer("not understood: which place of the body, and why", media=TEXT)
ASKED = {
    202: Answer("accepted: it goes on in the daemon; its events can be followed", doc.Accepted),
    400: UNDERSTOOD,
    409: Answer("refused: nothing was touched, and why", doc.Refused),
}


def _health(path: str, text: str, query: Mapping[str, str] | None = None) -> Iterator[Operation]:
    answers = {200: Answer("yes", HealthDocument), 503: Answer("no, and why", HealthDocument)}
    if query:
        answers[400] = Answer("not understood: what is allowed", media=TEXT)
    for method in METHODS:
        name: Any = method.lower()
        told = {code: Answer(a.text, None, "") for code, a in answers.items()} if name == "head" else answers
        yield Operation(PUBLIC, path, text, told, name, query or {})


def _asked(path: str, text: str, body: Any) -> Operation:  # noqa: ANN401 - a type, of any shape
    return Operation(CONTROL, path, text, ASKED, "post", body=body)


OPERATIONS: tuple[Operation, ...] = (
    *_health("/primary", "Whether this node is primary. Its lease runs by its own clock and its gate is open."),
    *_health("/replica", "Whether this node follows.", {"lag": f"at most so far behind: {ALLOWED_LAG}"}),
    *_health("/healthy", "Whether this node does what its role asks."),
    *_health("/ready", "Whether this node could take part."),
    Operation(
        PUBLIC,
        "/metrics",
        "Metrics for Prometheus. In OpenMetrics where Accept asks for it.",
        {200: Answer("the metrics", media=TEXT)},
    ),
    Operation(
        PUBLIC,
        "/nginx-auth",
        "Where nginx's mail proxy sends a session. Passwords are not looked at.",
        {200: Answer("in headers only: Auth-Status, Auth-Server, Auth-Port, Auth-Wait, Auth-Error-Code", media="")},
        headers={
            "Auth-Protocol": "imap, pop3 or smtp",
            "Auth-Method": "plain or none",
            "Auth-Login-Attempt": "which attempt of its session",
        },
    ),
    Operation(
        PUBLIC,
        "/v1/events",
        "Status and history as they change. Server-sent events: `status` has a StatusDocument, `history` a "
        "HistoryDocument, each in one line of JSON.",
        {200: Answer("until the client goes", media=EVENTS), 503: Answer("too many listen", media=TEXT)},
    ),
    Operation(PUBLIC, "/v1/openapi.json", "This document.", {200: Answer("OpenAPI 3.1", dict[str, Any])}),
    Operation(BOTH, "/v1/status", "The cluster as this node sees it.", {200: Answer("now", doc.StatusDocument)}),
    Operation(BOTH, "/v1/check", "Whether the cluster is fit to fail over.", {200: Answer("now", doc.CheckDocument)}),
    Operation(
        BOTH,
        "/v1/history",
        "Changes of primary, and how requests ended. Newest first.",
        {200: Answer("as far as nodes answer", HistoryDocument)},
    ),
    Operation(BOTH, "/v1/version", "Which API this is, and whose.", {200: Answer("always", VersionDocument)}),
    Operation(
        CONTROL,
        "/v1/input",
        "What this node would decide on now. The view is as `failoverctl explain` reads it.",
        {200: Answer("now", dict[str, Any])},
    ),
    Operation(
        CONTROL,
        "/v1/audit",
        "The newest records of this node's audit. One record a line.",
        {200: Answer("some MB at most", dict[str, Any], LINES), 404: Answer("there is none", media=TEXT)},
    ),
    _asked("/v1/promote", "Make a node primary. Nothing acknowledged is lost.", control._Promote),
    _asked("/v1/promote-forced", "Make a node primary past what protects from loss.", control._PromoteForced),
    Operation(
        CONTROL,
        "/v1/would-promote",
        "What a promotion would come to. Nothing is asked of anybody.",
        {200: Answer("now", doc.Preview), 400: UNDERSTOOD},
        "post",
        body=control._WouldPromote,
    ),
    _asked("/v1/confirm-fenced", "Say that the last primary has no power.", control._ConfirmFenced),
    _asked("/v1/pause", "Let nothing act by itself.", control_orders._Pause),
    _asked("/v1/resume", "Let the cluster go on.", control_orders._Resume),
    _asked("/v1/maintenance", "Take a node out of what acts by itself, or put it back.", control_orders._Maintenance),
    _asked("/v1/acknowledge", "Let the changes of primary up to now count no more.", control_orders._Acknowledge),
    _asked("/v1/schedule", "Make a node primary at a time, since 1970.", control_orders._Schedule),
    _asked("/v1/cancel-scheduled", "Forget the scheduled switchover.", Body),
    Operation(
        CONTROL,
        "/v1/rejoin",
        "What a rejoin would do.",
        {200: Answer("now", doc.RejoinDocument)},
        query={"node": "who comes home", "donor": "from whom; empty: any that is fit", "anew": "true or false"},
    ),
    _asked("/v1/rejoin", "Make a data node that cannot follow come home.", control._Rejoin),
    Operation(
        CONTROL,
        "/v1/alerts",
        "What is told to whom.",
        {200: Answer("as this node sees it", document_alerts.AlertsDocument)},
    ),
    Operation(
        CONTROL,
        "/v1/alerts/test",
        "Send a test alert. An empty receiver is all of them.",
        {
            200: Answer("what each said", document_alerts.AlertTests),
            400: UNDERSTOOD,
            404: Answer("no such receiver", media=TEXT),
        },
        "post",
        body=alerting._Test,
    ),
    Operation(
        CONTROL,
        "/v1/requests/{id}/events",
        "The events of a request, from the first on. One a line, an empty line a second while there is none.",
        {200: Answer("up to the final one", doc.Event, LINES), 404: Answer("no such request here", media=TEXT)},
    ),
)


@cache
def document() -> bytes:
    """The whole document as JSON. Takes some ten milliseconds at the first call: not on the loop."""
    return json.dumps(built()).encode()


def built() -> dict[str, Any]:
    """The whole document."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, schemas)
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "failoverd",
            "version": __version__,
            "summary": "What every node answers: to anybody who looks, and to who commands.",
        },
        "servers": list(SERVERS.values()),
        "tags": [{"name": name, "description": server["description"]} for name, server in SERVERS.items()],
        "paths": paths,
        "components": {"schemas": {name.lstrip("_"): schema for name, schema in schemas.components.items()}},
    }
    # A body's class is private to its handler; its schema is not.
    public: dict[str, Any] = json.loads(json.dumps(found).replace(f"{PLACE}_", PLACE))
    return public


class _Schemas:
    """Every type that is answered or read, and a reference for each."""

    def __init__(self) -> None:
        answers = [a.kind for o in OPERATIONS for a in _answers(o).values() if a.kind is not None]
        bodies = [o.body for o in OPERATIONS if o.body is not None]
        # Not by the type: dict[str, Any] is made anew each time. Two that are equal have one schema.
        self._of, together = TypeAdapter.json_schemas(
            [(str(kind), "serialization", TypeAdapter(kind)) for kind in answers]
            + [(str(kind), "validation", TypeAdapter(kind)) for kind in bodies],
            ref_template=PLACE + "{model}",
        )
        self.components: dict[str, Any] = together.get("$defs", {})

    def answered(self, kind: Any) -> Any:  # noqa: ANN401 - a type in, JSON out
        """The schema of an answer."""
        return self._of[str(kind), "serialization"]

    def read(self, kind: Any) -> Any:  # noqa: ANN401 - likewise
        """The schema of a body."""
        return self._of[str(kind), "validation"]


def _answers(operation: Operation) -> dict[int, Answer]:
    """All of an operation: what the door answers is the same for each route behind it."""
    return {**operation.answers, **({403: FORBIDDEN} if "control" in operation.where else {})}


def _described(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": "-".join([operation.method, *re.findall(r"[a-z]+", operation.path.removesuffix(".json"))]),
        "summary": operation.text.partition(". ")[0].removesuffix("."),
        "description": operation.text,
        "tags": list(operation.where),
        "servers": [SERVERS[name] for name in operation.where],
        "responses": {str(code): _answered(answer, schemas) for code, answer in _answers(operation).items()},
    }
    if "control" in operation.where:
        found["x-failoverd-role"] = ROUTES[f"{operation.method.upper()} {operation.path}"].word
    parameters = [_parameter(name, "path", "", required=True) for name in re.findall(r"{(\w+)}", operation.path)]
    parameters += [_parameter(name, "query", text) for name, text in operation.query.items()]
    parameters += [_parameter(name, "header", text) for name, text in operation.headers.items()]
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas.read(operation.body)}}}
    return found


def _parameter(name: str, place: str, text: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "description": text, "schema": {"type": "string"}}


def _answered(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.text}
    if answer.media:
        schema = {"type": "string"} if answer.kind is None else schemas.answered(answer.kind)
        found["content"] = {answer.media: {"schema": schema}}
    return found
