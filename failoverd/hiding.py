"""Secrets out of other people's words: a server, a program or a library may say again what it was told.

Whole, as it was escaped on its way (SQL, IMAP, JSON, a URL), and a beginning or an end of it: words are cut off at some
length, in front or behind, and half a password is worth as much as a whole one to who has the time.
"""

from __future__ import annotations

import base64
from os.path import commonprefix
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "***"
PIECE = 12  # characters: so much of a secret is hidden wherever it stands; less stands elsewhere as well, as a word


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text without any of them."""
    for secret in sorted({*secrets} - {""}, key=len, reverse=True):
        forms = _forms(secret)
        for form in forms:
            text = text.replace(form, HIDDEN)
        if len(secret) > PIECE and "://" not in secret:  # a URL begins like any other
            text = _without_beginnings(text, forms)
            text = _without_beginnings(text[::-1], [form[::-1] for form in forms])[::-1]
    return text


def _forms(secret: str) -> list[str]:
    slashed = secret.replace("\\", "\\\\")
    forms = {secret, slashed.replace("'", "\\'"), slashed.replace('"', '\\"'), quote(secret, safe="")}
    if len(secret) > PIECE:
        forms.add(base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode().rstrip("="))
    return sorted(forms, key=len, reverse=True)


def _without_beginnings(text: str, forms: list[str]) -> str:
    """Hide each place where one of the forms begins, as far as any of them goes on there."""
    starts, at = {form[:PIECE] for form in forms}, 0
    while (found := min((place for start in starts if (place := text.find(start, at)) >= 0), default=-1)) >= 0:
        length = max(len(commonprefix([text[found:], form])) for form in forms)  # noqa: RUF071 - characters it is
        text = text[:found] + HIDDEN + text[found + length :]
        at = found + len(HIDDEN)
    return text
