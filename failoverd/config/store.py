"""The section `store`: where the record of term and lease is kept."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from failoverd.config.error import wrong
from failoverd.config.section import Section
from failoverd.config.values import Label, PrivateFile, ReadableFile, SecretFile, Text, pattern, unique

_ENDPOINT = re.compile(r"https://((?:[0-9]{1,3}\.){3}[0-9]{1,3}):([0-9]{1,5})")
_ALLOWED = "https://ADDRESS:PORT with a literal IPv4 address, such as https://192.0.2.11:2379"
OF_KIND = {
    "embedded": ("node",),
    "etcd": ("endpoints", "ca", "certificate", "key", "user", "password_file", "prefix"),
}


def _endpoint(value: str) -> str:
    match = _ENDPOINT.fullmatch(value)
    if match is None or not all(int(part) <= 255 for part in match[1].split(".")) or not 1 <= int(match[2]) <= 65535:
        raise wrong("is no endpoint (names are not looked up, and TLS is not left out)", _ALLOWED)
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
Endpoints = Annotated[
    tuple[Endpoint, ...], Field(strict=False, min_length=1, max_length=16), AfterValidator(unique("endpoint"))
]
Prefix = Annotated[
    str, pattern(r"/(?:[A-Za-z0-9._-]{1,63}/){0,8}", "a path of etcd's keys that begins and ends with /: /failoverd/")
]


class Store(Section):
    """Where the record of term and lease is kept: by the arbiter's own failoverd, or in an etcd."""

    kind: Literal["embedded", "etcd"]
    node: Label | None = None
    endpoints: Endpoints | None = None
    ca: ReadableFile | None = None
    certificate: ReadableFile | None = None
    key: PrivateFile | None = None
    user: Text | None = None
    password: Annotated[SecretFile | None, Field(alias="password_file")] = None
    prefix: Prefix = "/failoverd/"

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """What is hidden wherever it stands."""
        return () if self.password is None else (self.password,)

    @property
    def identity(self) -> dict[str, object]:
        """What all nodes must agree on. How each reaches an etcd is its own matter."""
        return (
            {"kind": self.kind, "node": self.node}
            if self.kind == "embedded"
            else {
                "kind": self.kind,
                "prefix": self.prefix,
            }
        )

    def endpoints_for(self, address: str, place: int) -> tuple[str, ...]:
        """In which order a node asks them: its own member first, the others from its `place` among the nodes on.

        So that a node alone with its member goes on, and a cluster's nodes do not all ask the same one.
        """
        urls = self.endpoints or ()
        own = tuple(url for url in urls if urlsplit(url).hostname == address)
        others = tuple(url for url in urls if url not in own)
        first = place % len(others) if others else 0
        return (*own, *others[first:], *others[:first])

    @model_validator(mode="after")
    def _as_its_kind_says(self) -> Self:
        fields = type(self).model_fields
        given = {fields[name].alias or name for name in self.model_fields_set}
        for kind, keys in OF_KIND.items():
            for key in keys:
                if kind != self.kind and key in given:
                    raise wrong(
                        f"is for kind: {kind}",
                        f"the keys of kind: {self.kind}: {', '.join(OF_KIND[self.kind])}",
                        key=("store", key),
                    )
        needed = ("node",) if self.kind == "embedded" else ("endpoints", "ca")
        for key in needed:
            if key not in given:
                raise wrong(f"key {key!r} is missing, and kind is {self.kind}", "a value", key=("store",))
        for one, other in (("certificate", "key"), ("user", "password_file")):
            if (one in given) != (other in given):
                present, absent = (one, other) if one in given else (other, one)
                raise wrong(f"key {absent!r} is missing, and {present} is there", "both, or neither", key=("store",))
        return self
