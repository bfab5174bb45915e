"""Another node, as far as it answers: what it says to each question comes out of an input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.https import Answer, LinkError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 40  # answers of one conversation; then it is gone
STATUSES = (b"204", b"403", b"404", b"409", b"412", b"500", b"503", b"507")


def answers(data: bytes) -> list[Answer]:
    """Paragraphs, each a status line and a body; what is no status that is known is 200."""
    found = []
    for part in data.split(b"\n\n"):
        line, _, body = part.partition(b"\n")
        found.append(Answer(int(line) if line in STATUSES else 200, body))
    return found


class OtherNode:
    """In the place of a `Link`: each question gets the next answer, and at last none."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = list(answers)[:MOST]

    async def request(self, method: str, path: str, **_: object) -> Answer:
        """As a link's."""
        assert method in {"GET", "POST", "PUT"}
        assert path.isprintable()
        if not self._answers:
            raise LinkError("it is gone")
        return self._answers.pop(0)
