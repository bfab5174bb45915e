"""What the commands of `failoverctl fleet` have in common: the file that says where etcd is, and asking it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from failoverd.ctl.exits import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failoverd.config.store import Store
    from failoverd.stores.etcd_link import EtcdLink

T = TypeVar("T")

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="/etc/failoverd/fleet.yaml",
    show_default=True,
    metavar="FILE",
    help="Where etcd is, and who asks: a section `store` as in failoverd.yaml.",
)


def store_of(config: Path) -> Store:
    """The section of the file. Raises UsageError: FILE:LINE: key: value: what is wrong; allowed."""
    from failoverd.config import ConfigError  # noqa: PLC0415 - pydantic is slow to import and only needed here
    from failoverd.fleet import access  # noqa: PLC0415 - likewise

    try:
        return access.read(config)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def asked(store: Store, asking: Callable[[EtcdLink], Awaitable[T]]) -> T:
    """What `asking` comes to with a client of etcd. Raises UnreachableError with all that etcd, or TLS, says."""
    from failoverd.fleet import access  # noqa: PLC0415 - likewise
    from failoverd.ports import StoreUnavailableError  # noqa: PLC0415 - likewise

    async def run() -> T:
        link = access.link(store)
        try:
            return await asking(link)
        finally:
            await link.close()

    try:
        return asyncio.run(run())
    except StoreUnavailableError as error:
        raise UnreachableError(str(error)) from None
    except OSError as error:  # a file of the store's TLS
        raise UnreachableError(f"etcd cannot be asked: {error}") from None
