"""Requests made of the OpenAPI document, right and wrong ones: no 5xx, answers as described, no method beside them.

`tests/fuzz/run` tries the same for longer.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import api
import pytest
from places import config_file

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = 12
OPERATIONS = [(where, operation) for where in ("public", "control") for operation in api.operations(where)]
each = pytest.mark.parametrize(
    ("where", "operation"), OPERATIONS, ids=[f"{where} {one.method} {one.path}" for where, one in OPERATIONS]
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, api.Served]]:
    with ExitStack() as stack:
        public = stack.enter_context(api.public(config_file()))
        control = stack.enter_context(api.control(tmp_path_factory.mktemp("control")))
        yield {"public": public, "control": control}


@each
def test_every_answer_is_as_described(servers: dict[str, api.Served], where: str, operation: api.Any) -> None:
    api.tries(servers[where], operation, EXAMPLES)


@each
def test_no_other_method_is_taken(servers: dict[str, api.Served], where: str, operation: api.Any) -> None:
    api.methods(servers[where], operation)


def test_what_is_tried_is_nearly_all_of_it() -> None:
    assert len([one for where, one in OPERATIONS if where == "public"]) > 8
    assert len([one for where, one in OPERATIONS if where == "control"]) > 12
