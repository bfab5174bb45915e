"""What can be wrong with the public listener (public.py). Each has a page in runbooks/."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CODES: Mapping[str, str] = {
    "HTTP_PORT_TAKEN": "another program has the port of the public listener",
    "HTTP_NOT_LISTENING": "the public listener cannot be opened",
    "HTTP_HOST": "the public listener is asked for under a name that is not its own",
    "HTTP_CERTIFICATE": "the certificate of the public listener cannot be used",
}
