"""What can be wrong with who may do what. Each has a page in runbooks/."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CODES: Mapping[str, str] = {
    "ACCESS_DENIED": "the caller has not the role that this takes",
    "ACCESS_UNKNOWN": "the configuration gives a role to users or groups that this node does not know",
    "ACCESS_REMOTE": "operators elsewhere cannot get in: their listener cannot be opened",
}
