"""What a server's settings have to be, for any dialect: rules of (code, wrong, words), and the reading made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import Health, Reading

if TYPE_CHECKING:
    from failoverd.core.model import SettingsFacts


def settings_reading(facts: SettingsFacts) -> Reading:
    """FAILED with the first code and every reason, so that the record of it names all; OK where nothing is wrong."""
    if not facts.found:
        return Reading(Health.OK, reason="every setting is as it should be", facts=facts)
    reasons = "; ".join(f"{code}: {reason}" for code, reason in facts.found)
    return Reading(Health.FAILED, facts.found[0][0], reasons, facts)
