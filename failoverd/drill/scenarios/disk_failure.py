"""A file system of the primary stands still: every write waits, none fails. It is frozen: nothing on it is hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.model import Fault
from failoverd.drill.scenarios.scenario import Scenario, started

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.drill.model import Cast

LIMIT_S = 600  # less than others: what waits for a disk piles up


def _fault(config: Config, cast: Cast) -> Fault | None:
    if config.drill.disk is None:
        return None
    path = str(config.drill.disk)
    return Fault(
        node=cast.target,
        words=f"{path} on {cast.target} takes no writes",
        inject=(("fsfreeze", "--freeze", path),),
        undo=(("fsfreeze", "--unfreeze", path), started(config.database.unit)),
        # A second thaw fails exactly when nothing is frozen; what it thaws is gone then as well. The server was killed
        # when it was found to hang, and dies when it is thawed: perhaps just after it was to be started.
        gone=(
            ("sh", "-ec", f"! fsfreeze --unfreeze '{path}' 2>/dev/null"),
            ("systemctl", "is-active", "--quiet", config.database.unit),
        ),
        limit_s=LIMIT_S,
    )


def _refuses(config: Config, _target: str) -> tuple[str, str] | None:
    if config.drill.disk is None:
        return "DRILL_DISK", "drill.disk names no file system to freeze"
    return None


SCENARIO = Scenario(
    name="disk-failure",
    about="a file system of the primary takes no writes any more",
    target="primary",
    moves=True,
    by="fault",
    expects="the heir is primary, and the old one does not serve from memory",
    fault=_fault,
    refuses=_refuses,
)
