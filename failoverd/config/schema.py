"""The configuration file's shape as JSON Schema, so that an editor can complete and check it.

It describes the file, which is not quite what the model holds: a duration is a text there, and a secret is the name of
its file. What holds between values (config/relations.py) no schema can say: `failoverctl config check` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.config.model import Config
from failoverd.config.section import Section
from failoverd.config.values import DURATION, PERCENTAGE

if TYPE_CHECKING:
    from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DURATION = {"type": "string", "pattern": f"^{DURATION.pattern}$", "description": "a whole number with ms, s, m or h"}
_NEVER = {"anyOf": [_DURATION, {"const": "never"}]}
_PERCENTAGE = {"type": "string", "pattern": f"^{PERCENTAGE.pattern}$", "description": "a percentage, such as 5%"}
_FILE = {
    "type": "string",
    "pattern": "^(/|credential:)",
    "description": "the path of a file that holds it, or credential:NAME",
}


def schema() -> dict[str, object]:
    """The whole of it."""
    made = Config.model_json_schema(by_alias=True)
    for name, shape in _sections().items():
        target = made if name == "Config" else made.get("$defs", {}).get(name)
        if target is not None:
            _describe(target, shape)
    return {"$schema": DIALECT, "title": "failoverd.yaml", **made}


def _sections() -> dict[str, type[BaseModel]]:
    """Every section, by its class's name."""
    found: dict[str, type[BaseModel]] = {}
    waiting: list[type[BaseModel]] = list(Section.__subclasses__())
    while waiting:
        each = waiting.pop()
        found[each.__name__] = each
        waiting += each.__subclasses__()
    return found


def _describe(target: dict[str, object], shape: type[BaseModel]) -> None:
    """Say what the file has, where that is not what the model holds."""
    properties = target.get("properties")
    if not isinstance(properties, dict):
        return
    target["description"] = (shape.__doc__ or "").partition("\n")[0]
    for name, field in shape.model_fields.items():
        key = field.alias or name
        is_secret = "SecretStr" in str(field.annotation) and key.endswith("_file")
        if name.endswith("_ms"):
            properties[key] = dict(_NEVER if "None" in str(field.annotation) else _DURATION)
        elif name.endswith("_percent"):
            properties[key] = dict(_PERCENTAGE)
        elif is_secret:
            properties[key] = dict(_FILE)
