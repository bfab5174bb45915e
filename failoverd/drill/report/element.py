"""HTML and SVG from values: `h("p", "text", {"class": "x"})`, as dom.js of the status page builds it.

Whatever is not made by `h` is text and is escaped, so that what a server, a user or a mail said can only ever be read.
Characters that nobody sees, or that turn the order of others around (a name that reads `exe.gpj`), are shown as their
numbers. What is longer than anybody reads is cut, and says so: report.json has all of it.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeAlias

    Child: TypeAlias = "str | int | float | Iterable[Child] | None"

LONGEST = 2000
VOID = frozenset({"meta", "br", "col", "link"})
# Control characters, and those of bidirectional and other invisible formatting; lone surrogates are no UTF-8 at all.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)


class Markup(str):
    """Text that is markup already. Only this module makes it, and whoever can vouch for each byte."""

    __slots__ = ()


def seen(words: str) -> str:
    """What nobody sees, and what turns the order of letters around, as its number; a new line as a blank."""
    return _UNSEEN.sub(lambda one: f"\\u{ord(one[0]):04x}", words.replace("\r\n", "\n").replace("\n", " "))


def text(value: object, longest: int = LONGEST) -> Markup:
    """Any value as text."""
    words = str(value)
    left = len(words) - longest
    if left > 0:
        words = words[:longest]
    words = html.escape(_UNSEEN.sub(lambda one: f"\\u{ord(one[0]):04x}", words))
    return Markup(f"{words}… ({left:,} characters more in report.json)" if left > 0 else words)


def h(name: str, *children: Child, of: Mapping[str, object] | None = None) -> Markup:
    """One element. Children and attributes that are None are left out, False attributes too; lists are flattened."""
    attributes = "".join(_attribute(key, value) for key, value in (of or {}).items())
    if name in VOID:
        return Markup(f"<{name}{attributes}>")
    return Markup(f"<{name}{attributes}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """What is between an element's tags."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, (str, int, float)):
            parts.append(text(child))
        else:
            parts.append(join(*child))
    return Markup("".join(parts))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {key}" if value is True else f' {key}="{text(value, 100_000)}"'
