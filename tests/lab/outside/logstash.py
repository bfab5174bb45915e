"""What config/logstash/failoverd.conf does to an event: its filter, parsed by Logstash's grammar and carried out here.

No Logstash could be had. Carried out are conditions on a field, `==`, and of `mutate` and `date` what the file uses;
anything else fails, so that nothing there goes unnoticed. An event is what Filebeat sends: nested mappings.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from logstash_pipeline_parser import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Event = dict[str, Any]
Statement = list[Any]


class Filter:
    """The filter of a file; `applied` notes each field that it moved, took for the time or asked for and found."""

    def __init__(self, file: Path) -> None:
        parts = {kind: body for kind, body in Pipeline.from_file(file).parse()}  # noqa: C416 - refuses what is no pair
        assert parts.keys() == {"input", "filter", "output"}
        self._body: list[Statement] = parts["filter"]
        self.applied: set[str] = set()

    def __call__(self, event: Event) -> Event:
        """Carry it out on the event itself."""
        self._run(self._body, event)
        return event

    def named(self) -> set[str]:
        """Every field that it names, but those that it only adds."""
        return {field for kind, options in _plugins(self._body) for field in _asked_for(kind, options)}

    def _run(self, body: list[Statement], event: Event) -> None:
        taken = False
        for kind, *rest in body:
            if kind in {"if", "else if", "else"}:
                ((*condition, inner),) = rest
                taken = taken and kind != "if"
                if not taken and (kind == "else" or self._holds(*condition, event)):
                    taken = True
                    self._run(inner[0], event)
            else:
                self._plugin(kind, {name: value[0] for name, value in rest[0]}, event)

    def _holds(self, condition: list[Any], event: Event) -> bool:
        value = _get(event, condition[0])
        if len(condition) == 1:
            return value not in {None, False} if not isinstance(value, dict | list) else True
        field, operator, wanted = condition
        assert operator == "==", field
        return bool(value == wanted)

    def _plugin(self, kind: str, options: dict[str, Any], event: Event) -> None:
        if kind == "date":
            field, form = options.pop("match")
            assert form == "ISO8601"
            if _get(event, field) is None:
                return  # so does Logstash
            event["@timestamp"] = datetime.fromisoformat(_get(event, field))
            self.applied.add(field)
        else:
            assert kind == "mutate"
            for old, (new,) in options.pop("rename", []):
                if (value := _get(event, old)) is not None:
                    _set(event, new, value)
                    self.applied.add(old)
                _remove(event, old)
        for field, (value,) in options.pop("add_field", []):
            _set(event, field, value)
        for field in options.pop("remove_field", []):
            if _get(event, field) is not None:
                self.applied.add(field)
            _remove(event, field)
        assert not options, f"{kind} is asked for more than this carries out: {options}"


def _plugins(body: list[Statement]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, *rest in body:
        if kind in {"if", "else if", "else"}:
            yield from _plugins(rest[0][-1][0])
        else:
            yield kind, {name: value[0] for name, value in rest[0]}


def _asked_for(kind: str, options: dict[str, Any]) -> Iterator[str]:
    if kind == "date":
        yield options["match"][0]
    yield from (old for old, _ in options.get("rename", []))
    yield from options.get("remove_field", [])


def _path(field: str) -> list[str]:
    assert re.fullmatch(r"(\[[\w@]+\])+", field), field
    return field[1:-1].split("][")


def _get(event: Event, field: str) -> Any:
    found: Any = event
    for name in _path(field):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def _set(event: Event, field: str, value: object) -> None:
    *above, last = _path(field)
    for name in above:
        event = event.setdefault(name, {})
    event[last] = value


def _remove(event: Event, field: str) -> None:
    *above, last = _path(field)
    for name in above:
        event = event.get(name, {})
    event.pop(last, None)
