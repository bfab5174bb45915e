"""A backup of the drill as its job makes it, a process of its own: CONFIG NODE PROGRAMS DRILL KIND."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from failoverd.config import load
from failoverd.drill import model
from failoverd.drill.backup import Backup
from failoverd.rebuild.programs import Programs


def tell(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    config, node, programs, drill, kind = sys.argv[1:]
    done = Backup(load(Path(config), node), drill, tell, Programs(Path(programs), bound=True)).make(kind)
    print(model.dump(done).decode(), flush=True)
