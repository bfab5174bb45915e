"""What `failoverctl init` has to be told: by options, by a file with the same keys, or by a person who is asked.

    # cluster.yaml: failoverctl init --answers cluster.yaml --yes
    cluster: lab
    nodes: {mail1: 10.89.1.11, mail2: 10.89.1.12, mail3: 10.89.1.13}
    arbiter: {arbiter: 10.89.1.14}
    vip: 10.89.1.100/24
    canary: canary@lab.test
    canary_password_file: /root/canary

A key that is left out is found out, and shown with where it comes from; what cannot be found is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from failoverd.config import ConfigError, validated
from failoverd.config.lines import Document, read_document
from failoverd.config.section import Section
from failoverd.config.values import (
    AbsolutePath,
    Address,
    AddressWithPrefix,
    Interface,
    Label,
    ReadableFile,
    SecretFile,
    Text,
    pattern,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Members = Annotated[dict[Label, Address], Field(min_length=1, max_length=16)]
# No quotes: it stands in statements.
Account = Annotated[str, pattern(r"[A-Za-z0-9_.-]{1,80}", "letters, digits, _, . and -, at most 80")]
OPTIONS = Path("the options")  # stands for a file in messages about options


class Answers(Section):
    """All of it; None is not answered."""

    cluster: Label | None = None
    nodes: Members | None = None
    arbiter: Annotated[dict[Label, Address], Field(min_length=1, max_length=1)] | None = None
    vip: AddressWithPrefix | None = None
    interface: Interface | None = None
    mail_store: AbsolutePath | None = None
    server_name: Text | None = None
    mail_ca: ReadableFile | None = None
    canary: Text | None = None
    canary_password: Annotated[SecretFile | None, Field(alias="canary_password_file")] = None
    replication_user: Account | None = None
    replication_password: Annotated[SecretFile | None, Field(alias="replication_password_file")] = None
    database_socket: AbsolutePath | None = None

    def with_others(self, others: Answers) -> Answers:
        """These, and where `others` says something, that."""
        return self.model_copy(update={name: getattr(others, name) for name in others.model_fields_set})


def read(path: Path) -> Answers:
    """The answers of a file. Raises ConfigError: FILE:LINE: key: value: what is wrong; allowed."""
    return validated(Answers, path, read_document(path), {})


def of(given: Mapping[str, object]) -> Answers:
    """Answers by key, as options or a person give them. Raises ConfigError without a file's name."""
    document = Document(dict(given))
    document.texts = {(key,): str(value) for key, value in given.items() if isinstance(value, str)}
    try:
        return validated(Answers, OPTIONS, document, {})
    except ConfigError as error:
        raise ValueError(str(error).removeprefix(f"{OPTIONS}:1: ").removeprefix(f"{OPTIONS}: ")) from None


def members(words: str) -> dict[str, str]:
    """`mail1=192.0.2.11 mail2=192.0.2.12` as a mapping. Raises ValueError."""
    found: dict[str, str] = {}
    for word in words.replace(",", " ").split():
        name, equals, address = word.partition("=")
        if not equals or name in found:
            raise ValueError(f"value {word!r}: {'is named twice' if equals else 'has no ='}; allowed: NAME=ADDRESS")
        found[name] = address
    return found
