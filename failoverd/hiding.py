"""Secrets out of other people's words: a server, a program or a library may say again what it was told.

Whole, as it was escaped on its way (SQL, IMAP, JSON, a URL), and a beginning or an end of it: words are cut off at some
length, in front or behind, and half a password is worth as much as a whole one to who has the time.
"""

from __future__ import annotations

import base64
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
        for form in forms if len(secret) > PIECE and "://" not in secret else ():  # a URL begins like any other
            text = _without_beginnings(text, form)
            text = _without_beginnings(text[::-1], form[::-1])[::-1]
    return text


def _forms(secret: str) -> list[str]:
    slashed = secret.replace("\\", "\\\\")
    forms = {secret, slashed.replace("'", "\\'"), slashed.replace('"', '\\"'), quote(secret, safe="")}
    if len(secret) > PIECE:
        forms.add(base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode().rstrip("="))
    return sorted(forms, key=len, reverse=True)


def _without_beginnings(text: str, secret: str) -> str:
    at = text.find(secret[:PIECE])
    while at >= 0:
        end = PIECE
        while end < len(secret) and text[at + end : at + end + 1] == secret[end]:
            end += 1
        text = text[:at] + HIDDEN + text[at + end :]
        at = text.find(secret[:PIECE], at + len(HIDDEN))
    return text
