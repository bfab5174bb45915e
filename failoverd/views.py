"""A `View` as strict JSON, and back: what a decision was made from, for the audit, `explain` and whoever replays it.

    decode(encode(view)) == view          so that `rules.decide` gives the same rule again

It stands beside wire.py and is as strict, for the same reason: a replay that guessed at a fact would explain another
decision. A field that a later version adds has a default, so that an input of an earlier one is still read; one with
fields that this version does not know is refused, with the place.

Nothing secret is in a view: it has names, addresses, positions, states, thresholds and the words of errors. Passwords,
keys and the fence agents' options stay in the configuration, which no view refers to; a test holds that.
"""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from failoverd.core.view import View


class ViewError(Exception):
    """What was to be a view is none; the text names the place."""


@cache
def _model() -> type[BaseModel]:
    """The fields of a view, but for what it has worked out."""
    hints = get_type_hints(View)
    given: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is MISSING else field.default)
        for field in fields(View)
        if field.init
    }
    # Nested plain dataclasses take this configuration over: strict types, no unknown keys, at every level.
    config = ConfigDict(strict=True, extra="forbid", frozen=True, ser_json_inf_nan="constants")
    return create_model("ViewAsItIsKept", __config__=config, **given)


def prepare() -> None:
    """Do now what the first view would otherwise wait for: some 20 ms, which belong to a daemon's start."""
    _model()


def encode(view: View) -> bytes:
    """JSON of all that `view` knows. Raises ViewError where a text in it is no Unicode."""
    model = _model()
    known = vars(view)
    # Not validated: it is a View already, and validation costs several times the rest.
    message = model.model_construct(**{name: known[name] for name in model.model_fields})
    try:
        return message.__pydantic_serializer__.to_json(message)
    except ValueError as error:  # a byte that a program printed, carried as a surrogate
        raise ViewError(f"it cannot be written as JSON: {error}") from None


def decode(data: bytes) -> View:
    """The view in `data`. Raises ViewError."""
    try:
        known = _model().model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "input"
        raise ViewError(f"{place}: {first['msg']}") from None
    return View(**{name: getattr(known, name) for name in type(known).model_fields})


def digest(data: bytes) -> str:
    """The name of an encoded view: SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
