"""A configuration as plain values, key by key as the file has them: for people, and to compare two of them.

Durations and percentages are texts again, as a file has them, so that what is shown could be loaded. A secret is ***,
whatever it is. A section that is not there is None.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr

from failoverd.config.section import Section
from failoverd.config.values import UNITS_MS
from failoverd.hiding import HIDDEN


def plain(section: BaseModel) -> dict[str, object]:
    """All keys of a section with their values, defaults included."""
    return {key: value_of(name, value) for key, name, value in fields_of(section)}


def fields_of(section: BaseModel) -> Iterator[tuple[str, str, object]]:
    """(the YAML's key, the attribute's name, the value) of each field."""
    for name, field in type(section).model_fields.items():
        yield field.alias or name, name, getattr(section, name)


def value_of(name: str, value: object) -> object:
    """One value as a file would have it. `name` is the attribute's, which says what kind of number it is."""
    if isinstance(value, SecretStr):
        return HIDDEN
    if name.endswith("_ms"):
        return duration(value) if isinstance(value, int) else "never"
    if name.endswith("_percent"):
        return f"{value:g}%"
    return _value(value)


def _value(value: object) -> object:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, BaseModel):
        return plain(value)
    if isinstance(value, dict):
        return {str(key): _value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_value(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value) if isinstance(value, Path) else f"{value}"


def duration(ms: int) -> str:
    """`ms` in the largest unit that gives a whole number."""
    for unit, size in sorted(UNITS_MS.items(), key=lambda known: -known[1]):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


def keys_of(shape: type[BaseModel], place: str = "") -> Iterator[str]:
    """Every key that a file can have, dotted; of mappings and lists of sections the key itself."""
    for name, field in shape.model_fields.items():
        key = f"{place}{field.alias or name}"
        inner = section_of(field.annotation)
        if inner is None:
            yield key
            continue
        yield from keys_of(inner, f"{key}.")
        if inner is not field.annotation:
            yield key  # the section may be left out as a whole


def section_of(annotation: object) -> type[Section] | None:
    """The section that a field holds, also where it may be None."""
    from typing import get_args  # noqa: PLC0415 - only here

    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None
