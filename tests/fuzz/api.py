"""Schemathesis on what /v1/openapi.json describes, against real servers on loopback: public listener, control socket.

Requests are made of the document, right ones and wrong ones, and each answer has to be as described.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import control_stage
import httpx
import public_stage
import schemathesis
import views as stories
from hostile import Elsewhere
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.core import NOT_SET

from failoverd.runtime import openapi
from failoverd.runtime.alerting import Alerting  # noqa: F401 - its routes are described as well

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE", "TRACE", "PROPFIND")
# A stream without an end, and what only a whole daemon serves: test_public_openapi.py and test_reload.py look at those.
LEFT_OUT = {"/v1/events", "/v1/alerts", "/v1/alerts/test", "/v1/requests/{id}/events"}
REFUSED = (400, 404, 405, 409, 413, 414, 422, 431, 501)


@dataclass(frozen=True)
class Served:
    """A server, and how it is asked."""

    where: str
    client: httpx.Client


@contextlib.contextmanager
def public(config_file: Path) -> Iterator[Served]:
    """The public listener of mail2, as it stands while mail1 is primary."""
    elsewhere, stage = Elsewhere(), public_stage.Stage(config_file, stories.view("mail2"))
    elsewhere.run(stage.server.start())
    try:
        with httpx.Client(base_url=stage.url, timeout=20) as client:
            yield Served("public", client)
    finally:
        elsewhere.run(stage.server.stop())
        elsewhere.close()


@contextlib.contextmanager
def control(directory: Path) -> Iterator[Served]:
    """The control socket of a daemon that takes every order."""
    path = directory / "control.sock"
    stage = control_stage.Stage()
    stage.directory = directory
    (directory / "audit.jsonl").write_text('{"v": 1}\n')
    transport = httpx.HTTPTransport(uds=str(path))
    with control_stage.Running(path, stage), httpx.Client(transport=transport, base_url="http://control") as client:
        yield Served("control", client)


def operations(where: str) -> list[Any]:
    """What is described of one of the two, as schemathesis has it."""
    named = {(one.path, one.method) for one in openapi.OPERATIONS if where in one.where and one.path not in LEFT_OUT}
    schema = schemathesis.openapi.from_dict(openapi.built())
    found = [operation.ok() for operation in schema.get_all_operations()]
    return [operation for operation in found if (operation.path, operation.method.lower()) in named]


def tries(served: Served, operation: Any, examples: int) -> None:
    """So many requests of a kind, right ones and wrong ones. Raises what an answer is not as it should be."""
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        try:
            strategy = operation.as_strategy(generation_mode=mode)
        except Exception as error:
            if mode is GenerationMode.NEGATIVE and "negative" in str(error).lower():
                continue  # nothing of it could be wrong
            raise

        @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=strategy)
        def one(case: Any) -> None:
            answer = asked(served, case)
            assert answer.status_code < 500 or answer.status_code == 503, f"{answer.status_code} {answer.text}"
            # 503 is what load balancers are told of a node that does not serve: it is described, and no error.
            case.validate_response(answer, excluded_checks=[checks.not_a_server_error, *_LENIENT])

        try:
            one()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "no right request can be made"  # nothing of it could be wrong


# A rule between two fields (no force without a reason) is not said by a schema, nor the form of a duration.
# A key that is not known in a query is passed over by every server, as the document says of none that it is not.
_LENIENT = [
    checks.positive_data_acceptance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.use_after_free,
    checks.ignored_auth,
]


def asked(served: Served, case: Any) -> httpx.Response:
    """Send one."""
    given_ = case.as_transport_kwargs(base_url=str(served.client.base_url))
    body = {} if case.body is NOT_SET else {key: given_[key] for key in ("json", "data") if given_.get(key) is not None}
    if "data" in body:
        body = {"content": body["data"]} if isinstance(body["data"], bytes | str) else body
    headers = {name: value for name, value in dict(given_.get("headers") or {}).items() if isinstance(value, str)}
    return served.client.request(
        given_["method"], given_["url"], params=given_.get("params"), headers=headers, cookies=None, **body
    )


def methods(served: Served, operation: Any) -> None:
    """Every method that is not described for a path is refused, and does nothing."""
    described = {one.method.upper() for one in openapi.OPERATIONS if one.path == operation.path}
    path = operation.path.replace("{id}", "x").replace("{name}", "x")
    for method in METHODS:
        if method not in described:
            answer = served.client.request(method, path, content=b"{}" if method != "GET" else None)
            assert answer.status_code in (404, 405), f"{method} {path}: {answer.status_code}"
