"""Manual pages in the man(7) macros, as groff and mandoc read them.

click-man makes a page of each command, in section 1 and without exit codes, files or signals: an operator wants one
page to search in.
"""

from __future__ import annotations

import os
import re
import textwrap
import time

from failoverd import __version__

WIDTH = 78  # of a line of source: nothing reads longer ones badly, but mandoc's lint says so


def escaped(text: str) -> str:
    """Text as the formatter shows it again: hyphens that can be copied, nothing that is an order to it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


class Page:
    """One page, built from the top."""

    def __init__(self, name: str, section: int, summary: str) -> None:
        day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
        self._lines = [f'.TH {escaped(name).upper()} {section} {day} "failoverd {__version__}" "failoverd"']
        self.section("NAME")
        self._lines.append(f"{escaped(name)} \\- {escaped(summary)}")

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def section(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f".SH {escaped(title)}")

    def subsection(self, title: str) -> None:
        """Begin a part of one."""
        self._lines.append(f'.SS "{escaped(title)}"')

    def text(self, words: str) -> None:
        """Paragraphs, as a docstring has them: an empty line parts them."""
        for index, paragraph in enumerate(part for part in words.strip().split("\n\n") if part.strip()):
            if index or not self._lines[-1].startswith((".SH", ".SS")):
                self._lines.append(".PP")
            self._lines += _filled(paragraph)

    def entry(self, name: str, words: str) -> None:
        """A word in bold, and what it means, indented."""
        self._lines += [".TP", f"\\fB{escaped(name)}\\fR", *(_filled(words) or ["\\&"])]

    def verbatim(self, text: str) -> None:
        """Lines as they are."""
        first = self._lines[-1].startswith((".SH", ".SS"))
        self._lines += [
            *([] if first else [".PP"]),
            ".nf",
            *(escaped(line) or "\\&" for line in text.rstrip("\n").split("\n")),
            ".fi",
        ]


def _filled(words: str) -> list[str]:
    lines = textwrap.wrap(" ".join(words.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
    return [escaped(line) for line in lines]
