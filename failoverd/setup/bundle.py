"""One archive a node: all that `failoverctl join` needs there. Carried by the administrator, since it holds a key.

A tar with a manifest first (format, cluster, node, the digest of each file) and then the files by their names below
the configuration's directory. It is read as a whole and compared with its digests before anything is put in place;
nothing in it decides where a file goes. The same content makes the same bytes, so that a second `init` sees that there
is nothing to do.

Header by header, since no more is ever written than plain members: a whole tar reader goes on to links, long names and
sparse files, and of the latter a kilobyte makes as many bytes as it says.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from failoverd.config.lines import read_regular
from failoverd.setup.files import LARGEST, File
from failoverd.setup.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 1
MANIFEST = "manifest.json"
KEYS = ("cluster", "node", "address", "kind")
_WORD = re.compile(r"[a-z0-9.-]{1,63}")  # what each of them is made of: it is shown before anything else is read
CONFIG, CA, CERTIFICATE, KEY = "failoverd.yaml", "tls/ca.crt", "tls/node.crt", "tls/node.key"
# All that there may be, and whether it is a secret.
NAMES: Mapping[str, bool] = {
    CA: False,
    KEY: True,
    CERTIFICATE: False,
    "tls/mail-ca.crt": False,
    "secrets/canary": True,
    "secrets/database": True,
    "secrets/replication": True,
    CONFIG: False,
}
NEEDED = (CONFIG, CA, CERTIFICATE, KEY)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one node is given."""

    cluster: str
    node: str
    address: str
    kind: str  # data | arbiter
    contents: Mapping[str, bytes]

    def packed(self) -> bytes:
        """The archive."""
        digests = {name: hashlib.sha256(self.contents[name]).hexdigest() for name in NAMES if name in self.contents}
        manifest = {
            "format": FORMAT, "cluster": self.cluster, "node": self.node, "address": self.address, "kind": self.kind,
            "sha256": digests,
        }  # fmt: skip
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            head = json.dumps(manifest, indent=1).encode()
            for name, content in ((MANIFEST, head), *((name, self.contents[name]) for name in digests)):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o600
                archive.addfile(member, io.BytesIO(content))
        return packed.getvalue()

    def files(self, directory: Path) -> tuple[File, ...]:
        """Where they go, the configuration last: a daemon that is started meanwhile must find the rest."""
        return tuple(
            File(directory / name, self.contents[name], secret)
            for name, secret in NAMES.items()
            if name in self.contents
        )


def read(path: Path) -> Bundle:
    """The bundle of an archive. Raises Refused."""
    try:
        packed, mode = read_regular(path, LARGEST)
    except OSError as error:
        raise Refused("SETUP_ARCHIVE", str(path), f"cannot be read: {error.strerror}") from None
    if mode & 0o007:
        words = f"others have access to it (mode {mode & 0o7777:04o}), and it holds a key"
        raise Refused("SETUP_ARCHIVE", str(path), words, allowed="mode 0600")
    return unpacked(packed, str(path))


def unpacked(packed: bytes, place: str) -> Bundle:
    """Take one apart. Raises Refused."""
    contents = _members(packed, place)
    manifest = _manifest(contents.pop(MANIFEST, b""), place)
    digests = manifest["sha256"]
    for name in NEEDED:
        if name not in contents:
            raise Refused("SETUP_ARCHIVE", place, f"has no {name}: it was cut", allowed="a whole copy")
    for name, content in contents.items():
        if name not in NAMES:
            raise Refused("SETUP_ARCHIVE", place, "has a file too many", allowed=", ".join(NAMES), value=name)
        if digests.get(name) != hashlib.sha256(content).hexdigest():
            raise Refused("SETUP_ARCHIVE", place, f"{name} is not what its digest says", allowed="a whole copy")
    if digests.keys() != contents.keys():
        raise Refused("SETUP_ARCHIVE", place, "lacks a file that it names: it was cut", allowed="a whole copy")
    cluster, node, address, kind = (str(manifest[key]) for key in KEYS)
    return Bundle(cluster, node, address, kind, contents)


def _members(packed: bytes, place: str) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    at, block = 0, tarfile.BLOCKSIZE
    while (header := packed[at : at + block]) != bytes(block):  # such a one ends it
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        except (tarfile.TarError, ValueError) as error:
            raise Refused("SETUP_ARCHIVE", place, f"is no archive of failoverctl init ({error})") from None
        if member.type != tarfile.REGTYPE or member.name in contents:
            raise Refused("SETUP_ARCHIVE", place, "has what is no plain file, or one twice", value=member.name)
        at += block
        if not 0 <= member.size <= len(packed) - at:
            raise Refused("SETUP_ARCHIVE", place, "ends in the middle of a file: it was cut", allowed="a whole copy")
        contents[member.name] = packed[at : at + member.size]
        at += -(-member.size // block) * block
    return contents


def _manifest(text: bytes, place: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or not all(_is_word(manifest.get(key)) for key in KEYS):
        raise Refused("SETUP_ARCHIVE", place, f"its {MANIFEST} is missing or damaged", allowed="a whole copy")
    made_as = manifest.get("format")
    if not isinstance(manifest.get("sha256"), dict) or not isinstance(made_as, int):
        raise Refused("SETUP_ARCHIVE", place, f"its {MANIFEST} lacks format or sha256", allowed="a whole copy")
    if made_as != FORMAT:
        words = "was made by another version"
        raise Refused("SETUP_ARCHIVE", place, words, allowed=f"format {FORMAT}", value=str(made_as))
    return dict(manifest)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None
