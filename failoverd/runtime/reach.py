"""What the daemon reaches on its own host beside database, gate and units: by itself, or by failoverd-helper.

Where systemd runs it, its unit takes from it what most of this needs (systemd/README.md), and the helper does it.
Without that unit it does all of it itself, with the same adapters that the helper has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.core.model import NodeKind
from failoverd.runtime.helped import HelpedFence, HelpedQueue, HelpedStore, Helper
from failoverd.runtime.local import fence_of, locks_of, mail_store_of, queue_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.ports import Fence, MovedStore
    from failoverd.probes.disk import Writer
    from failoverd.probes.host import Space
    from failoverd.runtime.executor import HandsOn, MailQueue, MailStore
    from failoverd.runtime.schedule import WaitingQueue


@dataclass(frozen=True, slots=True)
class Reach:
    """None: the configuration has none of it, or (`write`, `space`) what the probes do by themselves.

    `locks` are the mail store's, `write` gives a disk's writer, `space` what is left of a file system.
    """

    locks: MailStore
    fence: Fence | None = None
    moved: MovedStore | None = None
    queue: WaitingQueue | None = None
    mail_queue: tuple[MailQueue, HandsOn] | None = None
    write: Callable[[str], Writer] | None = None
    space: Callable[[str], Space] | None = None
    helper: Helper | None = None


def reach_of(config: Config, state: Path, runtime: Path, socket: Path | None) -> Reach:
    """By the helper at `socket`, or without one by this process."""
    if socket is not None:
        return _helped(config, Helper(socket))
    queue = queue_of(config, state) if config.this.kind is NodeKind.DATA else None
    waiting = queue[0] if queue is not None else None
    return Reach(locks_of(config), fence_of(config), mail_store_of(config, runtime), waiting, queue)


def _helped(config: Config, helper: Helper) -> Reach:
    store, queue = HelpedStore(helper), HelpedQueue(helper)
    has_queue = config.this.kind is NodeKind.DATA and config.queue.kind != "none" and config.mail.smtp is not None
    return Reach(
        store,
        HelpedFence(helper) if config.fencing.nodes else None,
        store if config.mail_store.moves else None,
        queue if has_queue else None,
        (queue, queue) if has_queue else None,
        helper.lend,
        helper.space,
        helper,
    )
